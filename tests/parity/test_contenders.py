"""The implementations that are timed against each other compute the same attack."""

import pytest

pytest.importorskip("torch", reason='needs the extra `parity`: pip install -e ".[parity]"')
from experiments.speed import contenders

pytestmark = pytest.mark.parity


def test_first_steps_in_pytorch_are_ours():
    used = contenders.model("mobilefacenet_casia")
    assert contenders.first_steps(used, targets=3, steps=3) > 0.95
