"""Rows say who is protected as `tipim protect` does: on the saved file, by every judge, at its threshold."""

import io
import json

import pyarrow.parquet as pq

from tests.bulk import world
from tipim_jax.bulk import rows, storage, summary
from tipim_jax.photos.results import FaceResult, Match

CONSTANTS = rows.Constants(56.0, 0, {"a": "1"}, {"a": "1", "b": "2"}, {"a": 0.25, "b": 0.5})


def face(a: float, b: float) -> FaceResult:
    return FaceResult((0, 0, 9, 9), {"a": Match(1.0, a, 0.25), "b": Match(1.0, b, 0.5)}, 30.0)


def test_a_face_that_a_judge_recognises_is_not_protected():
    faces = [
        face(0.2, 0.4),
        face(0.26, 0.4),
        face(0.2, 0.51),
        FaceResult((0, 0, 2, 2), {}, skipped="too small"),
    ]
    row = rows.saved_row("p.jpg", "photos/p.jpg", faces)
    data = rows.encode_rows([row, rows.unsaved_row("q.jpg", rows.NO_FACE, "none")], CONSTANTS)
    saved, other = pq.read_table(io.BytesIO(data)).to_pylist()
    assert saved["status"] == "saved"
    assert saved["protected"] == [True, False, False]
    assert (saved["faces"], saved["masked_faces"], saved["protected_faces"]) == (4, 3, 1)
    assert dict(saved["thresholds"]) == CONSTANTS.thresholds
    assert dict(saved["judges"]) == CONSTANTS.judges
    assert dict(saved["surrogates"]) == CONSTANTS.surrogates
    assert other["protected_faces"] == 0
    assert rows.count_encoded(data) == rows.Counts(2, 1, 1, 0, 4, 3, 1)
    assert summary.sentence(rows.count_encoded(data)) == (
        "1 of 2 photos saved, 1 of 4 faces protected, too small for a mask: 1, "
        "photos without a face: 1"
    )


def test_a_face_that_nobody_judges_is_not_protected():
    row = rows.saved_row("p.jpg", "photos/p.jpg", [FaceResult((0, 0, 9, 9), {}, 30.0)])
    assert row["protected_faces"] == 0


def test_a_job_counts_the_faces_that_its_judges_recognise(undisturbed, tmp_path):
    """With a judge that takes everybody for anybody nobody is protected; the photos are the same."""
    models = world.models()
    strict = models._replace(judges=[models.judges[0]._replace(threshold=-1.0)])
    arguments = (undisturbed.photos, tmp_path / "out", tmp_path / "work")
    meter = world.run(*arguments, models=strict)
    assert meter.counts.saved > 50
    assert meter.counts.protected_faces == 0
    assert meter.counts.masked_faces > meter.counts.saved
    written = world.files(tmp_path / "out" / "photos")
    assert written == {
        name.removeprefix("photos/"): data
        for name, data in undisturbed.output.items()
        if name.startswith("photos/")
    }
    part = world.worker(*arguments).results.assignment
    total = summary.write_summary(storage.folder_at(tmp_path / "out"), part.shards, {})
    assert total == meter.counts
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["protected_faces"] == 0
