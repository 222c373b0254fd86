"""Judges from files and from the project, what they say of protections, and where they look after a journey."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from experiments.data import dataset
from experiments.judging import judges, networks, retrained, rows, scene, sightings
from experiments.judging.judges import Known
from experiments.protection.degradations import JOURNEYS, chain, cropped, fitted
from ports.networks.yunet import Faces
from tipim_jax.core.geometry import ARCFACE_112
from tipim_jax.errors import UserError
from tipim_jax.photos.crops import apply
from tipim_jax.photos.demo import SAME_PERSON, demo_photos
from tipim_jax.photos.files import read_photo

ENTRY = {
    "file": "mean.onnx",
    "template": "arcface",
    "crop": [96, 112],
    "mean": [10, 20, 30],
    "scale": 2,
    "layout": "NCHW",
    "channels": "BGR",
}


@pytest.fixture
def described(tmp_path: Path):
    """A folder with a network that gives the mean of each channel."""
    takes = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 112, 96])
    gives = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3, 1, 1])
    node = onnx.helper.make_node("GlobalAveragePool", ["x"], ["y"])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "mean", [takes], [gives]),
        opset_imports=[onnx.helper.make_opsetid("", 13)],
        ir_version=8,
    )
    (tmp_path / "mean.onnx").write_bytes(model.SerializeToString())

    def write(**changes) -> Path:
        entry = {k: v for k, v in {**ENTRY, **changes}.items() if v is not None}
        (tmp_path / "judges.json").write_text(json.dumps({"mean": entry}))
        return tmp_path

    return write


def test_a_network_sees_what_its_description_says(described):
    (judge,) = judges.load([described()], [])
    colours = np.array([[90, 60, 30], [33, 26, 14]], np.float32)
    crops = np.broadcast_to(colours[:, None, None], (2, 112, 96, 3))
    expected = (colours[:, ::-1] - [10, 20, 30]) / 2
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(judge.embed(crops), expected, atol=1e-6)
    # one at a time: the same bytes in any company
    np.testing.assert_array_equal(judge.embed(crops)[1:], judge.embed(crops[1:]))
    assert judge.size == (112, 96)
    np.testing.assert_allclose(judge.template, ARCFACE_112 - [8, 0])


def test_a_crop_has_the_face_where_the_template_says(described):
    (judge,) = judges.load([described()], [])
    photo = np.zeros((300, 300, 3), np.uint8)
    landmarks = judge.template * 2 + [40, 20]
    x, y = landmarks[2].astype(int)
    photo[y - 3 : y + 4, x - 3 : x + 4] = 255
    crop = judge.crop(photo, landmarks)[..., 0]
    brightest = np.unravel_index(np.argmax(crop), crop.shape)
    np.testing.assert_allclose(brightest[::-1], judge.template[2], atol=2)


def test_the_digest_is_that_of_weights_and_description(described):
    def digest(**changes):
        return networks.described(described(**changes))[0].digest

    assert digest() == digest()
    assert len({digest(), digest(scale=3), digest(mean=0), digest(channels="RGB")}) == 4


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"file": "absent.onnx"}, "absent.onnx, the file of mean, does not exist"),
        ({"file": "judges.json"}, "neither .onnx nor .tflite"),
        ({"layout": "HWC"}, "layout of mean is none of NCHW, NHWC"),
        ({"channels": "GBR"}, "channels of mean is none of RGB, BGR"),
        ({"template": "arc"}, "template, mean or scale of mean is not understood"),
        ({"scale": 0}, "must not be zero"),
        ({"mean": None}, "must have channels, crop, file"),
    ],
)
def test_descriptions_that_are_none(described, changes, complaint):
    with pytest.raises(UserError, match=complaint):
        networks.described(described(**changes))


def test_judges_that_are_none(described, tmp_path):
    with pytest.raises(UserError, match="describes no judges"):
        judges.load([tmp_path / "elsewhere"], [])
    with pytest.raises(UserError, match="nobody judges"):
        judges.load([], [])
    with pytest.raises(UserError, match="two judges are called mean"):
        judges.load([described(), tmp_path / "judges.json"], [])
    folder = described()
    (folder / "mean.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match=r"mean.onnx cannot be run"):
        judges.load([folder], [])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its, of open files
def test_judges_of_the_panel_agree_with_their_own_code(research_data, tmp_path, monkeypatch):
    """Beside a reader of the same networks that was not written here; crops differ by their smoothing."""
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("cv2")
    monkeypatch.syspath_prepend(str(research_data / "judges"))
    import judges as theirs

    path = tmp_path / "judges.json"
    common = {"template": "arcface", "mean": 127.5, "channels": "RGB"}
    entries = {
        "edgeface_xxs": ("onnx", [112, 112], 127.5, "NCHW"),
        "coral_mfn": ("tflite", [96, 112], 128, "NHWC"),
    }
    described = {
        name: {
            "file": str(research_data / "judges" / f"{name}.{suffix}"),
            **{"crop": crop, "scale": scale, "layout": layout},
            **common,
        }
        for name, (suffix, crop, scale, layout) in entries.items()
    }
    path.write_text(json.dumps(described))
    photos = [demo for demo in demo_photos() if demo.name in SAME_PERSON[0]]
    seen = sightings.sightings(dataset.Labelled(tuple(photos), ("a", "a")), tmp_path).seen
    for judge in judges.load([path], []):
        pixels = [read_photo(one.path).pixels for one in seen]
        known = theirs.load(judge.name)(pixels, points=[one.landmarks for one in seen])
        ours = sightings.embeddings(judge, seen, tmp_path)
        assert np.sum(ours * known, axis=1).min() > 0.98


def test_a_threshold_lets_a_share_of_all_pairs_of_strangers_pass():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(120, 6))
    people = np.repeat(np.arange(120), 2)
    embedded = np.repeat(centres, 2, axis=0) + 0.1 * rng.normal(size=(240, 6))
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    found = judges.threshold(embedded, people)
    assert (found.genuine, found.impostors) == (120, 240 * 239 // 2 - 120)
    with pytest.raises(UserError, match="thresholds need two people or more"):
        judges.threshold(embedded[::2], people[::2])
    cosines = embedded @ embedded.T
    strangers = cosines[np.triu(people[:, None] != people)]
    assert np.mean(strangers > found.cosine) == pytest.approx(judges.FAR, abs=1 / len(strangers))
    assert found.accepted == np.mean([cosines[2 * i, 2 * i + 1] > found.cosine for i in range(120)])


def unit(*angles: float) -> np.ndarray:
    """[N,2] embeddings at these angles, degrees."""
    radians = np.radians(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


KNOWN = Known(
    threshold=float(np.cos(np.radians(20))),
    gallery=unit(0, 30, 90, 120, 180, 215),
    people=np.array(["a", "a", "b", "b", "t", "x"]),
    targets=["t"],
)


def test_who_is_found():
    before, after = unit(10, 100), unit(45, 172)
    found = judges.found(KNOWN, before, after, np.array(["a", "b"]))
    assert {measure: list(map(int, values)) for measure, values in found.items()} == {
        "Rank-1-UT": [0, 1],  # nearest: a at 15°, t at 8°
        "Rank-5-UT": [0, 0],
        "gallery hidden": [0, 1],  # a at 15°, b at 52°
        "same photo hidden": [1, 1],  # 35°, 72°
        "Rank-1-T": [0, 1],
        "Rank-5-T": [1, 1],
    }
    still = judges.found(KNOWN, before, before, np.array(["a", "b"]))
    assert not still["same photo hidden"].any()


def test_links_are_pairs_that_match():
    # two probes, then two more photos of a and one of b, protected
    after = unit(45, 172, 50, 80, 160)
    identities = np.array(["a", "b", "a", "a", "b"])
    linked = judges.linked(KNOWN, after, identities, 2)
    np.testing.assert_allclose(linked["linked"], [1 / 2, 1])  # 5° of 5° and 35°; 12°
    np.testing.assert_allclose(linked["linked to old"], [1 / 2, 0])  # 15° of 45° and 15°; 82°, 52°
    np.testing.assert_allclose(linked["strangers linked"], [0, 0])
    alone = judges.linked(KNOWN, after[:2], identities[:2], 2)
    assert np.isnan(alone["linked"]).all()


def test_a_head_learns_what_masks_of_others_do():
    rng = np.random.default_rng(0)

    def normed(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    before = normed(rng.normal(size=(60, 32)))
    gallery = normed(np.repeat(before, 2, axis=0) + 0.05 * rng.normal(size=(120, 32)))
    after = normed(before * np.repeat([1.0, -1.5], 16))  # masks move half of the coordinates alone
    people = np.array([str(i) for i in range(60)])
    known = Known(
        judges.threshold(gallery, np.repeat(people, 2)).cosine, gallery, np.repeat(people, 2), []
    )
    asked = known, before, after, people
    plain = judges.found(*asked)
    learnt = retrained.found(*asked, folds=5)
    for measure in ("Rank-1-UT", "gallery hidden", "same photo hidden"):
        assert plain[measure].mean() > 0.9
        assert learnt[measure].mean() < 0.3
    # a mask without a pattern cannot be learnt
    after = normed(rng.normal(size=(60, 32)))
    assert retrained.found(known, before, after, people, folds=5)["same photo hidden"].mean() > 0.8


def test_a_gallery_that_holds_protected_photos(monkeypatch):
    """a's other protected photo lies beside the probe, which no unprotected one does."""
    subjects = [SimpleNamespace(identity=who) for who in "abab"]
    stage = scene.Scene(
        judges=[],
        thresholds={},
        known={"j": KNOWN},
        before={"j": unit(10, 100, 12, 102)},
        subjects=subjects,
        groups={"probes": slice(0, 2)},
        linked=slice(0, 4),
        missing=[],
    )
    after = {"lost": np.zeros(4), "j": unit(58, 172, 62, 160)}
    monkeypatch.setattr(rows, "_judged", lambda *about: dict(after))
    monkeypatch.setattr(rows, "_looked_at", lambda *about: {})
    name = SimpleNamespace(surrogates=())
    judged = rows.measured(None, stage, name, [], []).judged
    assert judged.keys() == {rows.SAVED, rows.IN_GALLERY}
    plain, held = (judged[who]["probes"]["Rank-1-UT"].sel(judge="j") for who in judged)
    assert (list(plain), list(held)) == ([0, 1], [0, 1])
    plain, held = (judged[who]["probes"]["gallery hidden"].sel(judge="j") for who in judged)
    assert (list(plain), list(held)) == ([1, 1], [0, 0])


def test_journeys_say_where_a_point_has_gone():
    photo = np.zeros((420, 640, 3), np.uint8)
    photo[200:211, 300:311] = 255
    for name, journey in {**JOURNEYS, "chained": chain(cropped(0.1), fitted(320))}.items():
        after, moved = journey(photo, np.random.default_rng(1))
        bright = after[..., 1].astype(float) ** 2
        y, x = (np.sum(axis * bright) / bright.sum() for axis in np.indices(bright.shape))
        np.testing.assert_allclose(
            apply(moved, np.array([[305, 205]])), [[x, y]], atol=1, err_msg=name
        )
    assert max(fitted(320)(photo, np.random.default_rng(0))[0].shape) == 320


def test_a_face_is_the_one_that_was_there_before(monkeypatch):
    before = ARCFACE_112 + 100
    near, far = before + 4, before + 300
    nothing = Faces(np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0))

    def again(faces):
        landmarks = np.array(faces).reshape(-1, 5, 2)
        monkeypatch.setattr(sightings, "find", lambda _: nothing._replace(landmarks=landmarks))
        return sightings.again(pixels, before)

    pixels = np.zeros((9, 9, 3), np.uint8)
    place, lost = again([far, near])
    assert not lost
    np.testing.assert_array_equal(place, near)
    for faces in ([far], []):
        place, lost = again(faces)
        assert lost
        np.testing.assert_array_equal(place, before)


def test_albums(tmp_path):
    folder = tmp_path / "probes"
    folder.mkdir()
    with pytest.raises(UserError, match="no folder with photos"):
        scene.albums([folder])
    (folder / "b.jpg").write_bytes(b"b")
    (folder / "a.jpg").write_bytes(b"a")
    with pytest.raises(UserError, match="two are called probes"):
        scene.albums([folder])
    (album,) = scene.albums([folder.rename(tmp_path / "own")])
    assert [path.name for path in album.photos.paths] == ["a.jpg", "b.jpg"]
    before = album.digest
    (tmp_path / "own" / "a.jpg").write_bytes(b"c")
    assert album.digest != before


def test_parts_of_a_protocol():
    protocol = dataset.built_in_protocol()
    assert scene.part(protocol, 1, 1).identities == protocol.probes.identities[1:]
    with pytest.raises(UserError, match="has 2 probes, so that there are no 2 from number 1 on"):
        scene.part(protocol, 1, 2)
    others = scene.others(protocol, protocol.probes, 3)
    assert others.identities == protocol.probes.identities
    assert not set(others.paths) & set(protocol.probes.paths)
    assert scene.others(protocol, protocol.probes, 0).paths == ()
