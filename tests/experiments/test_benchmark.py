"""What the benchmark keeps, and what it refuses, without timing anything."""

import numpy as np
import pytest

from experiments.launching import launch
from experiments.reporting import results
from experiments.speed import contenders
from tipim_jax.errors import UserError


def test_kept_cells_are_made_anew_of_something_else(tmp_path):
    path, calls = tmp_path / "cell.json", []

    def made() -> list[int]:
        calls.append(None)
        return [len(calls)]

    assert results.kept(path, {"weights": "a"}, made) == [1]
    assert results.kept(path, {"weights": "a"}, made) == [1]
    assert results.kept(path, {"weights": "b"}, made) == [2]
    assert results.kept(path, {"weights": "b", "photos": "p"}, made) == [3]
    path.write_text("[7]")  # says nothing of what it was made of
    assert results.kept(path, {"weights": "b"}, made) == [4]


def test_a_model_is_known_by_its_weights():
    def model(weight: float, share: float = 1.0) -> contenders.Model:
        tensors = {"a": np.full(3, weight), "b": np.zeros(2)}
        return contenders.Model("m", None, [share], [(None, "irse50", tensors)])

    digests = [model(1.0), model(1.0), model(2.0), model(1.0, 0.5)]
    first, same, other, joined = (one.digest for one in digests)
    assert first == same
    assert len({first, other, joined}) == 3


@pytest.mark.parametrize("text", ["ten", "0", "-1", "1.5", ""])
def test_counts_are_whole_numbers(text):
    with pytest.raises(UserError, match="is no number of 1 or more"):
        launch.numbers("targets", ["10", text])


def test_implementations_that_cannot_run(monkeypatch):
    monkeypatch.setattr(contenders.machine, "pytorch", lambda: False)
    contenders.check_wanted("rcd")
    for wanted, complaint in (("x", "'x' is none of a, b"), ("", "is none of"), ("ad", "absent")):
        with pytest.raises(UserError, match=complaint):
            contenders.check_wanted(wanted)
