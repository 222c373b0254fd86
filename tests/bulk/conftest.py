"""One undisturbed run that the others are compared with."""

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.bulk import world


class Undisturbed(NamedTuple):
    """The photos, and every file of the output of one process on one device that nobody disturbed."""

    photos: Path
    output: dict[str, bytes]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("bulk")
    world.write_photos(folder / "in", 60)
    meter = world.run(folder / "in", folder / "out", folder / "work")
    assert meter.counts.photos == 60
    return Undisturbed(folder / "in", world.files(folder / "out"))
