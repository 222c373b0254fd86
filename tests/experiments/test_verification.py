"""The verification protocol, and the flags of the ten published rows end to end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from experiments import verification
from experiments.data import dataset, framing, protocols
from experiments.data.people import people_of
from experiments.judging import matching
from experiments.reporting import paper
from tipim_jax.errors import UserError
from tipim_jax.photos.faces import version

ROOT = Path(__file__).resolve().parents[2]


def published_rows(kept: dict[str, str], *arguments: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.experiments.published_rows", *map(str, arguments)],
        cwd=ROOT,
        env={**kept, **os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def rows_of(folder: Path) -> list[dict]:
    return json.loads((folder / "verification.json").read_text())["rows"]


def comparisons(folder: Path) -> dict[str, set[int]]:
    """Data set -> how many comparisons its rows are made of."""
    rows = rows_of(folder)
    return {
        row["data"]: {r["comparisons"] for r in rows if r["data"] == row["data"]} for row in rows
    }


@pytest.mark.slow
def test_the_flags_of_every_published_row_run(tmp_path, kept_compilations):
    published_rows(kept_compilations, tmp_path)
    folders = sorted(path.name for path in tmp_path.glob("row*"))
    assert [name[3:5] for name in folders] == [f"{n:02d}" for n in range(1, 11)]
    figures = {r["flags"]: r["TIP-IM"] for r in paper.IDENTIFICATION_ROWS + paper.VERIFICATION_ROWS}
    for name in (*folders, "obfuscation", "aligned"):
        report = (tmp_path / name / "report.html").read_text(encoding="utf-8")
        assert figures.get(name, "54.40 %") in report
        if (tmp_path / name / "verification.json").exists():
            rows = rows_of(tmp_path / name)
            in_turn = name in ("row06_average", "row10_celeba_hq_quality", "obfuscation")
            alone = {n for n in paper.THRESHOLDS if name.endswith(n)} or {"irse50"}
            assert {row["black box"] for row in rows} == (
                set(paper.THRESHOLDS) if in_turn else alone
            )
            for row in rows:
                assert row["thresholds"] == "published"
                assert row["threshold"] in paper.THRESHOLDS[row["black box"]]
                assert row["black box"] not in row["surrogates"].split("+")
    for name in {*folders[3:], "aligned"} - {"row06_average"}:
        assert comparisons(tmp_path / name) == {"pairs": {2}}
    both = tmp_path / "row06_average"
    assert comparisons(both) == {"celeba_hq/pairs": {2}, "ladn/pairs": {1}}
    assert json.loads((both / "average.json").read_text())["rows"][0]["cells"] == 2 * 4
    # One of the two photos has another one beside it.
    assert comparisons(tmp_path / "obfuscation") == {"pairs": {1}}
    for shown in framing.FRAMINGS.values():
        assert any((tmp_path / "cache" / f"{shown.kind}-{version()}").iterdir())


@pytest.mark.slow
def test_groups_and_obfuscation_on_photos_of_people(tmp_path, research_data, kept_compilations):
    photos = research_data / "lfw" / "photos"
    if not photos.is_dir():
        pytest.skip(f"no photos at {photos}")
    published_rows(kept_compilations, tmp_path, photos)
    # Eight photos aim at both of two targets, or in groups each but the first at one of them.
    assert comparisons(tmp_path / "row06_average") == {"celeba_hq/pairs": {16}, "ladn/pairs": {7}}
    # Groups are of targets, which obfuscation has not: all photos are protected.
    assert comparisons(tmp_path / "obfuscation") == {"pairs": {8}}


def scene(cosines: np.ndarray, people: list[str]) -> matching.Scene:
    """Photos of `people` with embeddings of these cosines, as one recogniser sees them."""
    values, vectors = np.linalg.eigh(cosines)
    embedded = vectors * np.sqrt(np.maximum(values, 0))
    paths = tuple(Path(f"{person}/{i}.jpg") for i, person in enumerate(people))
    faces = dataset.Faces(paths, np.zeros((len(people), 1)), np.array(people), paths, ())
    manifest = matching.Manifest("made", paths, {}, {}, {}, Path("root"))
    return matching.Scene(manifest, framing.FRAMINGS["whole"], faces, (), {"net": embedded})


def test_a_person_is_the_top_folder():
    manifest = matching.Manifest("made", (), {}, {}, {}, Path("root"))
    photos = [Path("root") / photo for photo in ("a.jpg", "b/a.jpg", "c/profile/a.jpg")]
    assert list(map(manifest.person, photos)) == ["", "b", "c"]


def test_thresholds_of_other_networks_are_those_of_strangers():
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(40, 5))
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    people = [f"p{i // 2}" for i in range(40)]
    found, source = matching.thresholds(scene(raw @ raw.T, people), "net")
    first, second = np.triu_indices(40, 1)
    strangers = (raw @ raw.T)[first, second][first // 2 != second // 2]
    assert source == f"calibrated on {len(strangers)} pairs"
    fpr, _, cuts = roc_curve(
        np.r_[1, np.zeros(len(strangers))], np.r_[9, strangers], drop_intermediate=False
    )
    for far, threshold in found.items():
        assert np.mean(strangers > threshold + 1e-9) <= far
        # scikit-learn accepts at and above a cut: its first within the rate is just above ours.
        assert threshold < cuts[fpr <= far].min() + 1e-6
    # Nobody is known apart in a flat folder: every pair counts.
    assert matching.thresholds(scene(raw @ raw.T, [""] * 40), "net")[1] == "calibrated on 780 pairs"


def test_cells_belong_to_the_photos_themselves(run_in, tmp_path):
    """Of two data sets of one name, or of a manifest that was changed, none takes the other's canvases."""
    run = run_in(tmp_path)
    blank = scene(np.eye(3), ["a", "b", "target"])
    made = []
    for seed, contents in ((0, "xyz"), (1, "uvz"), (1, "uvw"), (0, "xyz")):
        canvases = np.random.default_rng(seed).integers(0, 256, (3, 160, 160, 3)).astype(np.uint8)
        faces = blank.faces._replace(canvases=canvases, digests=tuple(contents))
        aim = faces.paths[2]
        manifest = blank.manifest._replace(targets={"t": (aim, aim)})
        shown = blank._replace(faces=faces, manifest=manifest)
        photos = faces.paths[:2]
        chosen, kept = matching.protected(run, shown, "net/unprotected", "t", photos)
        assert chosen.tolist() == [0, 1]
        np.testing.assert_array_equal(kept, canvases[:2])
        made.append(sorted(tmp_path.rglob("*.npz")))
    assert [len(files) for files in made] == [1, 2, 3, 3]
    absent = [Path("nobody.jpg")]
    with pytest.raises(UserError, match="no photo of made that aims at 't' shows a face"):
        matching.protected(run, shown, "net/unprotected", "t", absent)


def test_success_is_what_the_goal_says():
    cosines = np.array([0.1, 0.3, 0.5])
    assert matching.success(cosines, 0.3, obfuscation=False).tolist() == [False, False, True]
    assert matching.success(cosines, 0.3, obfuscation=True).tolist() == [True, False, False]


def test_framings_show_what_they_say(tmp_path):
    photo = np.zeros((80, 120, 3), np.uint8)
    photo[:, 60:] = 200
    canvas = framing.FRAMINGS["whole"].canvas(photo)
    assert canvas.shape == (160, 160, 3)
    assert canvas[80, 40, 0] == 0
    assert canvas[80, 120, 0] == 200


@pytest.mark.parametrize(("size", "left"), [((112, 112), 0), ((160, 160), 0), ((112, 96), 8)])
def test_a_recogniser_sees_the_whole_canvas(size, left):
    import jax.numpy as jnp

    from tipim_jax.core.ensemble import on_canvas
    from tipim_jax.core.types import Recogniser

    seen = framing.whole_canvas(
        Recogniser("net", lambda params, crop: crop, (), size, np.zeros((5, 2)))
    )
    x = np.broadcast_to(np.arange(160.0)[None, :, None], (160, 160, 3))
    crop = np.asarray(on_canvas(seen)((), jnp.asarray(x, jnp.float32)))
    expected = (np.arange(size[1]) + left + 0.5) * 160 / size[0] - 0.5
    np.testing.assert_allclose(crop[size[0] // 2, :, 0], expected, atol=1e-2)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """(folder of photos, a manifest of two of them and a target)."""
    root = dataset.demo_people(tmp_path_factory.mktemp("photos"))
    return root, protocols.verification(people_of(root), 2, 1, [], 0)


def read(drawn, folder, **changes) -> matching.Manifest:
    root, manifest = drawn
    (folder / "pairs.json").write_text(json.dumps({**manifest, **changes}))
    return matching.read(folder / "pairs.json", root)


def test_a_manifest_is_read_as_it_was_drawn(drawn, tmp_path):
    found = read(drawn, tmp_path)
    assert len(found.photos) == 2
    assert list(found.groups.values()) == [found.photos]
    (target,) = found.targets
    group = read(drawn, tmp_path, groups={target: drawn[1]["photos"][1:]}).groups
    assert group == {target: found.photos[1:]}


ANN, OTHER = "ann/1.jpg", "nobody/1.jpg"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"photos": []}, "names no photos"),
        ({"targets": {}}, "names no targets"),
        ({"targets": None}, "is not a verification protocol"),
        ({"groups": {}, "others": {OTHER: ANN}}, "`others`.*nobody/1.jpg.*not among its `photos`"),
        ({"groups": {"bob": []}}, "`groups` and `targets` of .* differ in .*bob"),
        ({"groups": {"TARGET": []}}, "group of .* is empty"),
        ({"groups": {"TARGET": [OTHER]}}, "nobody/1.jpg.*not among its `photos`"),
    ],
)
def test_manifests_that_do_not_fit(drawn, tmp_path, changes, complaint):
    (target,) = drawn[1]["targets"]
    if "groups" in changes:
        named = {name.replace("TARGET", target): g for name, g in changes["groups"].items()}
        changes = {**changes, "groups": named}
    with pytest.raises(UserError, match=complaint):
        read(drawn, tmp_path, **changes)


def test_white_boxes_are_no_black_boxes():
    models = ["a", "b", "c", "d"]
    in_turn = verification.boxes(models[:3], None, None)
    assert in_turn == [("a", ["b", "c"]), ("b", ["a", "c"]), ("c", ["a", "b"])]
    assert verification.boxes(models, None, ["a", "b"]) == [("c", ["a", "b"]), ("d", ["a", "b"])]
    assert verification.boxes(models, ["d"], None) == [("d", ["a", "b", "c"])]
    assert verification.boxes(models, ["d"], ["a"]) == [("d", ["a"])]


@pytest.mark.parametrize(
    ("black_boxes", "surrogates", "complaint"),
    [
        (["typo"], None, "--black_boxes=typo is not among --models=a,b"),
        (None, ["typo"], "--surrogates=typo is not among --models=a,b"),
        (["a"], ["a"], "a is both a surrogate and a black box"),
        (None, ["a", "b"], "no black box is left"),
    ],
)
def test_boxes_that_do_not_fit(black_boxes, surrogates, complaint):
    with pytest.raises(UserError, match=complaint):
        verification.boxes(["a", "b"], black_boxes, surrogates)
    with pytest.raises(UserError, match="two or more --models"):
        verification.boxes(["a"], black_boxes, surrogates)


@pytest.mark.parametrize(
    ("method", "goal", "framed", "complaint"),
    [
        ("tip_im", "obfuscation", "box", "--method=tip_im aims at a target.*tip_im_untargeted"),
        ("medium", "obfuscation", "aligned", "--method=medium aims at a target"),
        ("medium", "impersonation", "whole", "use --framing=aligned"),
        ("tip_imm", "impersonation", "whole", "unknown method 'tip_imm'"),
        ("tip_im@20", "impersonation", "whole", "leave out @PROBES"),
    ],
)
def test_methods_that_do_not_fit(method, goal, framed, complaint):
    with pytest.raises(UserError, match=complaint):
        verification.check(method, goal, framed)


@pytest.mark.parametrize(
    ("method", "goal", "framed"),
    [
        ("tip_im_untargeted:epsilon=8", "obfuscation", "box"),
        ("noise", "obfuscation", "whole"),
        ("medium", "impersonation", "aligned"),
        ("tip_im", "impersonation", "box"),
    ],
)
def test_methods_that_fit(method, goal, framed):
    verification.check(method, goal, framed)


def test_every_row_shows_its_published_figure():
    rows = [*paper.IDENTIFICATION_ROWS, *paper.VERIFICATION_ROWS]
    configs = sorted((ROOT / "experiments" / "configs").glob("*/row*.flags"))
    assert [row["flags"] for row in rows] == [path.stem for path in configs]
    for row, path in zip(rows, configs, strict=True):
        assert row["TIP-IM"].split()[0] in path.read_text(encoding="utf-8")
