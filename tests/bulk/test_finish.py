"""A photo leaves the bulk pipeline as it leaves `tipim protect`, and with the same figures."""

import pyarrow.parquet as pq

from tests.bulk import world
from tipim_jax.photos.folders import discover
from tipim_jax.photos.saving import protect_photos


def test_bulk_and_protect_finish_alike(undisturbed, tmp_path):
    found = discover([undisturbed.photos], tmp_path)
    results = list(protect_photos(world.models(), found.jobs[:20], tmp_path))
    rows = tmp_path / "rows.parquet"
    measured = {}
    for name, data in undisturbed.output.items():
        if name.startswith("rows/"):
            rows.write_bytes(data)
            measured |= {row["photo"]: row for row in pq.read_table(rows).to_pylist()}
    saved = [result for result in results if result.output is not None]
    assert len(saved) > 10
    for result in saved:
        name = result.output.relative_to(tmp_path).as_posix()
        assert result.output.read_bytes() == undisturbed.output[f"photos/{name}"]
        after = [face.matches["small"].after for face in result.faces]
        assert measured[name]["after_small"] == after
