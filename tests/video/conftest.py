"""The command with stand-ins for networks, and faces that are found where the clips put them."""

import pytest

from tests.photos import standin
from tests.photos.conftest import bare_tipim  # noqa: F401
from tests.video import clips
from tipim_jax.video import masks


@pytest.fixture
def tipim(bare_tipim, monkeypatch):  # noqa: F811
    """`tipim(*arguments)`: nothing is compiled; faces lie where `clips.find` says."""
    standin.install(monkeypatch.setattr)
    monkeypatch.setattr(standin.faces, "find", lambda detector, pixels: clips.find(pixels))
    monkeypatch.setattr(masks, "make_masks", standin.make_masks)
    return bare_tipim
