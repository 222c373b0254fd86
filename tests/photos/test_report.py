"""The proof of a run, as text, JSON and HTML."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tipim_jax.photos import page
from tipim_jax.photos.files import digest
from tipim_jax.photos.folders import discover
from tipim_jax.photos.pictures import (
    FOLDER,
    face_pictures,
    keep,
    pictured,
    shown,
    side_by_side,
    tidy,
)
from tipim_jax.photos.records import photo_from_json, photo_json
from tipim_jax.photos.report import report_json, write_report
from tipim_jax.photos.results import (
    FaceResult,
    Match,
    PhotoResult,
    RunResult,
    Timings,
    summarise,
)
from tipim_jax.photos.table import (
    caveat,
    figures_line,
    figures_table,
    names,
    remarks,
    summary_line,
    verdict_table,
)
from tipim_jax.photos.verdict import hidden, visibility


@pytest.fixture
def run() -> RunResult:
    photo = np.random.default_rng(0).integers(9, 240, (600, 800, 3)).astype(np.uint8)
    pictures = face_pictures(photo, photo + 3, (300, 200, 250, 300))
    good = FaceResult(
        box=(300.0, 200.0, 250.0, 300.0),
        matches={"sface": Match(0.999, 0.12, 0.36), "frfeat": Match(1.0, 0.31, 0.33)},
        psnr=33.61,
        ssim=0.931,
        change=41,
        target="virtual-3",
        pictures=pictures,
    )
    half = good._replace(matches={**good.matches, "frfeat": Match(1.0, 0.5, 0.33)}, pictures=None)
    small = FaceResult((1.0, 2.0, 9.0, 9.0), {}, skipped="it is 9 px wide, under 20")
    return RunResult(
        photos=(
            PhotoResult(
                Path("in/a.jpg"), Path("out/a.jpg"), (good, half), notes=("a note",), change=44
            ),
            PhotoResult(Path('in/<b>"&\n.jpg'), Path("out/b.jpg"), (small,)),
            PhotoResult(Path("in/c.jpg"), error="c.jpg is empty (0 bytes)"),
        ),
        surrogates=("sface",),
        settings={"epsilon": 6, "seed": 0, "gamma": float("nan")},
        versions={"tipim-jax": "0.1.0"},
        timings=Timings(total=30.0, compile=14.0, attack=8.0),
    )


def html(run: RunResult) -> str:
    """The page without pictures."""
    return page.html(run, Path("out"), [{}] * len(run.photos))


def test_a_face_is_protected_if_no_recogniser_knows_it(run):
    s = summarise(run)
    assert (s.photos, s.failed, s.faces, s.skipped, s.protected) == (3, 1, 3, 1, 1)
    assert s.recognisers == {"sface": 2, "frfeat": 1}
    assert s.seconds_per_face == 4
    assert s.psnr == pytest.approx(33.61)
    assert Match(1, 0.3, 0.3).protected
    assert not Match(1, float("nan"), 0.3).protected
    assert not FaceResult((0, 0, 1, 1), {}).protected


def test_table_in_words(run):
    assert (
        verdict_table(run)
        == """\
photo  face  the change    recognisers
-----  ----  ------------  ----------------------------------------------------
a.jpg     1  clearly seen  Hidden from all 2 recognisers
a.jpg     2  clearly seen  Hidden from 1 of 2 recognisers; frfeat still matches"""
    )
    assert remarks(run) == [
        "a.jpg: a note",
        '<b>"&\\n.jpg, face 1: left alone: it is 9 px wide, under 20',
        "c.jpg: NOT protected: c.jpg is empty (0 bytes)",
    ]


def test_table_of_figures(run):
    assert (
        figures_table(run)
        == """\
photo  face  recogniser  before  after  threshold  protected  PSNR   SSIM  change
-----  ----  ----------  ------  -----  ---------  ---------  ----  -----  ------
a.jpg     1  sface *      0.999  0.120      0.360  yes        33.6  0.931      41
             frfeat       1.000  0.310      0.330  yes
a.jpg     2  sface *      0.999  0.120      0.360  yes        33.6  0.931      41
             frfeat       1.000  0.500      0.330  NO
before, after: cosine to the original face. * the mask was made on it. change: the largest of any pixel of \
the face, in levels of 255."""
    )


@pytest.mark.parametrize(
    ("count", "still", "text"),
    [
        (0, [], "No recogniser was asked"),
        (1, [], "Hidden from the recogniser"),
        (1, ["a"], "Still matched"),
        (3, [], "Hidden from all 3 recognisers"),
        (3, ["a"], "Hidden from 2 of 3 recognisers; a still matches"),
        (5, ["a", "b", "c"], "Hidden from 2 of 5 recognisers; a, b and c still match"),
        (6, list("abcd"), "Hidden from 2 of 6 recognisers; the other four still match"),
        (3, ["a", "b", "c"], "Still matched by all 3 recognisers"),
    ],
)
def test_verdicts_in_words(count, still, text):
    assert hidden(count, still) == text


def test_the_fainter_and_the_smaller_the_less_is_seen():
    assert visibility(float("inf"), 400) == "hardly"
    words = [visibility(psnr, 200) for psnr in (45, 37, 25)]
    assert words == ["hardly", "slightly", "clearly"]
    assert [visibility(37, width) for width in (60, 200, 900)] == words


def test_photos_of_one_name_are_told_apart(run):
    photo = run.photos[0]
    twins = [photo._replace(source=Path(place)) for place in ("a/p.jpg", "b/c/p.jpg")]
    assert names(twins) == ["a/p.jpg", "b/c/p.jpg"]
    assert names(twins[1:]) == ["p.jpg"]
    assert names([]) == []
    twin_run = run._replace(photos=tuple(twins))
    lines = figures_table(twin_run).splitlines()
    assert [line.split()[0] for line in lines if " sface " in line] == [
        *["a/p.jpg"] * 2,
        *["b/c/p.jpg"] * 2,
    ]
    assert "<h2>a/p.jpg</h2>" in html(twin_run)
    assert "<h2>b/c/p.jpg</h2>" in html(twin_run)


def test_summary_line(run):
    assert summary_line(run) == (
        "3 photos, 3 faces; 1 of 2 hidden from every recogniser; 1 face left alone; 1 photo not done."
    )
    assert figures_line(run) == (
        "Hidden from sface 2 and frfeat 1; mean PSNR 33.6 dB, SSIM 0.931; largest change of a pixel "
        "44 levels; 4.0 s per face (compiling took 14.0 s)."
    )
    nothing = run._replace(photos=run.photos[2:])
    assert summary_line(nothing) == "1 photo, 0 faces; 1 photo not done."
    assert figures_table(nothing) == figures_line(nothing) == verdict_table(nothing) == ""
    assert remarks(nothing) == ["c.jpg: NOT protected: c.jpg is empty (0 bytes)"]


def test_json_is_json_and_stable(run):
    report = json.loads(json.dumps(report_json(run), allow_nan=False))
    assert report["schema"] == 2
    assert set(report) == {
        "schema", "settings", "surrogates", "versions", "timings", "summary", "photos",
        "judged_by_surrogates_alone", "unreached", "others",
    }  # fmt: skip
    assert report["settings"] == {"epsilon": 6, "seed": 0, "gamma": None}
    photo = report["photos"][0]
    assert set(photo) == {"source", "output", "error", "faceless", "change", "notes", "faces"}
    assert photo["faces"][0] == {
        "box": [300.0, 200.0, 250.0, 300.0],
        "target": "virtual-3",
        "skipped": "",
        "protected": True,
        "psnr": 33.61,
        "ssim": 0.931,
        "change": 41,
        "over_time": None,
        "recognisers": {
            "sface": {
                "before": 0.999, "after": 0.12, "threshold": 0.36, "protected": True,
                "surrogate": True,
            },
            "frfeat": {
                "before": 1.0, "after": 0.31, "threshold": 0.33, "protected": True,
                "surrogate": False,
            },
        },
    }  # fmt: skip
    assert report["photos"][1]["faces"][0]["psnr"] is None


def test_names_of_files_are_escaped_on_the_page(run):
    text = html(run)
    assert "<b>" not in text
    assert "&lt;b&gt;&#34;&amp;\\n.jpg" in text


def test_the_page_begins_with_what_needs_attention(run):
    text = html(run._replace(others=(Path("in/notes.txt"),)))
    lead = re.sub(r"\s+", " ", text[text.index('<p class="lead">') : text.index("</p>")])
    assert lead.startswith(f'<p class="lead">{summary_line(run)[:-1]}; 1 file not protected')
    assert re.findall(r'href="#([^"]+)">([^<]+)<', lead) == [
        ("photo1-face2", "a.jpg, face 2"),
        ("photo3", "c.jpg"),
        ("others", "1 file"),
    ]
    assert "3 need attention:" in lead
    anchors = re.findall(r'id="([^"]+)"', text)
    assert set(re.findall(r'href="#([^"]+)"', text)) < set(anchors)
    assert len(anchors) == len(set(anchors))
    good = run.photos[0]._replace(faces=run.photos[0].faces[:1])
    assert "Nothing needs attention." in html(run._replace(photos=(good,)))
    many = run._replace(photos=run.photos[:1] * 9)
    assert "9 need attention:" in html(many)
    assert html(many).count('href="#photo9-face2"') == 1
    assert "photo9-face2" not in lead


def test_pictures():
    before = np.full((600, 800, 3), 100, np.uint8)
    after = before.copy()
    after[250:400, 350:450] += 5
    pictures = face_pictures(before, after, (300, 200, 250, 300))
    assert {p.shape for p in pictures} == {pictures.before.shape}
    assert max(pictures.before.shape) == 320
    assert (pictures.mask.min(), pictures.mask.max()) == (128, 168)
    height, width = pictures.before.shape[:2]
    assert side_by_side(pictures).shape == (height, 3 * width + 16, 3)
    edge = face_pictures(before, after, (-40, -30, 100, 100))
    assert edge.before.shape == (130, 120, 3)


def test_reports_do_not_overwrite_each_other(run, tmp_path):
    first = write_report(run, tmp_path)
    assert write_report(run, tmp_path) == first  # of the same photos
    second = write_report(run._replace(photos=run.photos[:1]), tmp_path)
    assert [p.name for p in first + second] == [
        "report.json", "report.html", "report-2.json", "report-2.html",
    ]  # fmt: skip
    assert json.loads(first[0].read_text())["photos"][2]["error"] == "c.jpg is empty (0 bytes)"
    assert write_report(run._replace(photos=run.photos[:1]), tmp_path) == second
    (tmp_path / "report.json").write_text("mine")
    assert write_report(run, tmp_path)[0].name == "report-2.json"
    assert (tmp_path / "report.json").read_text() == "mine"


def test_results_come_back_from_json(run):
    for photo in run.photos:
        values = json.loads(json.dumps(photo_json(photo, run.surrogates), allow_nan=False))
        faces = tuple(face._replace(pictures=None) for face in photo.faces)
        assert photo_from_json(values) == photo._replace(faces=faces)


def test_a_proof_by_surrogates_alone_says_so(run):
    assert caveat(run) == ""
    alone = run._replace(surrogates=("sface", "frfeat"))
    assert "`tipim models fetch --all`" in caveat(alone)
    for text in ("\n".join(remarks(alone)), html(alone), summary_line(alone)):
        assert "judged only by the recognisers that the masks were made on" in text.replace(
            "J", "j"
        )
    assert report_json(alone)["judged_by_surrogates_alone"] is True
    nobody = alone._replace(photos=run.photos[1:])
    assert caveat(nobody) == ""


def test_what_is_required_decides(run):
    good, half = run.photos[0].faces
    for face, required, expected in (
        (good, "all", True), (half, "all", False), (half, "seen", True), (half, "none", True),
        (half._replace(matches={}), "all", False), (half._replace(matches={}), "none", True),
    ):  # fmt: skip
        assert face.satisfies(required, run.surrogates) is expected
    assert not half.satisfies("seen", ("another",))


@pytest.fixture
def protected(run, tmp_path):
    """A run of one photo of two faces, whose files are there."""
    before = np.random.default_rng(0).integers(9, 240, (80, 90, 3)).astype(np.uint8)
    paths = [tmp_path / "in.png", tmp_path / "out" / "in.png"]
    paths[1].parent.mkdir()
    for path, pixels in zip(paths, (before, before + 3), strict=True):
        Image.fromarray(pixels).save(path)
    face = run.photos[0].faces[1]._replace(box=(30.0, 20.0, 25.0, 30.0))
    photo = PhotoResult(*paths, (face, face), sha256=digest(paths[1]))
    return run._replace(photos=(photo,))


def test_pictures_are_made_of_the_files_where_there_are_none(protected, tmp_path):
    (photo,) = protected.photos
    before = np.asarray(Image.open(photo.source))
    expected = face_pictures(before, before + 3, photo.faces[0].box)
    np.testing.assert_array_equal(pictured(photo).faces[0].pictures.mask, expected.mask)
    assert shown(tmp_path / "out", photo, quick=True) == {}
    found = shown(tmp_path / "out", photo)
    assert found.keys() == {1, 2}
    assert found[1].size == (61, 66)
    with Image.open(tmp_path / "out" / found[2].after) as image:
        assert image.size == found[2].size
    assert shown(tmp_path / "out", photo, quick=True) == found
    photo.output.unlink()
    assert (
        shown(tmp_path / "out", photo, quick=True) == found
    )  # its file is not read for its digest
    another = photo._replace(sha256=digest(b"another file"))
    assert shown(tmp_path / "out", another, quick=True) == {}
    photo.source.unlink()
    assert pictured(photo) == photo
    assert shown(tmp_path / "out", another) == {}


def test_pages_of_few_faces_hold_their_pictures_and_others_name_them(
    protected, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    _, path = write_report(protected, out)
    text = path.read_text()
    assert text.count('src="data:image/jpeg;base64,') == 6
    assert not (out / FOLDER).exists()
    references = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"'>)\s]{1,12})", text)
    assert set(references) == {"#photo1-face", "data:image/j"}
    assert "http" not in text.replace("http-equiv", "")

    monkeypatch.setattr(page, "MOST_HELD", 1)
    write_report(protected, out)
    text = path.read_text()
    named = set(re.findall(r'src="([^"]+)"', text))
    assert len(named) == 6
    assert len(text) < 20_000
    assert named == {str(file.relative_to(out)) for file in (out / FOLDER).iterdir()}
    assert write_report(protected, out, quick=True)[1].read_text() == text


def test_pictures_go_with_the_last_page_that_shows_them(protected, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST_HELD", 0)
    out = tmp_path / "out"
    _, path = write_report(protected, out)
    (out / FOLDER / "mine.jpg").write_text("mine")
    keep(out, digest(b"a photo that was not finished"), pictured(protected.photos[0]).faces)
    tidy(out)
    assert len(list((out / FOLDER).iterdir())) == 7
    path.rename(out / "report-2.html")
    tidy(out)
    assert len(list((out / FOLDER).iterdir())) == 7
    (out / "report-2.html").unlink()
    tidy(out)
    assert [file.name for file in (out / FOLDER).iterdir()] == ["mine.jpg"]
    assert [job.source.name for job in discover([out], tmp_path / "again").jobs] == ["in.png"]
