"""Strict weight tables: every source tensor used or ignored by name, every parameter filled.

A table is a tuple of `Rule`s that read in both directions, so the same table converts a checkpoint
into Flax parameters and exports the parameters back, bit for bit.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

Tensors = Mapping[str, np.ndarray]


class Layout(NamedTuple):
    """How one tensor is laid out in the source and in Flax; the two functions are inverses."""

    to_flax: Callable[[np.ndarray], np.ndarray]
    to_source: Callable[[np.ndarray], np.ndarray]


SAME = Layout(lambda a: a, lambda a: a)
CONV = Layout(lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))  # OIHW, HWIO
DEPTHWISE = Layout(lambda a: a[:, 0].transpose(1, 2, 0), lambda a: a.transpose(2, 0, 1)[:, None])
LINEAR = Layout(lambda a: a.T, lambda a: a.T)
PER_CHANNEL = Layout(lambda a: a[:, 0, 0], lambda a: a[:, None, None])  # PReLU in ONNX: (C,1,1), C
# A linear layer that its source writes as a 1×1 convolution, and the other way round
POINTWISE = Layout(lambda a: a[:, :, 0, 0].T, lambda a: a.T[:, :, None, None])
LINEAR_AS_CONV = Layout(lambda a: a.T[None, None], lambda a: a[0, 0].T)


def flattened_linear(channels: int, height: int, width: int) -> Layout:
    """A linear layer after a flatten: PyTorch orders its inputs (C,H,W), Flax here (H,W,C)."""

    def to_flax(a: np.ndarray) -> np.ndarray:
        a = a.reshape(-1, channels, height, width)
        return a.transpose(2, 3, 1, 0).reshape(height * width * channels, -1)

    def to_source(a: np.ndarray) -> np.ndarray:
        a = a.reshape(height, width, channels, -1)
        return a.transpose(3, 2, 0, 1).reshape(-1, channels * height * width)

    return Layout(to_flax, to_source)


class Rule(NamedTuple):
    """Two dotted names and the layout; `{name}` stands for one component on both sides."""

    source: str
    path: str
    layout: Layout = SAME


def batch_norm(source: str, path: str) -> tuple[Rule, ...]:
    """The four tensors of a PyTorch BatchNorm."""
    names = (
        ("weight", "scale"),
        ("bias", "bias"),
        ("running_mean", "mean"),
        ("running_var", "var"),
    )
    return tuple(Rule(f"{source}.{s}", f"{path}.{p}") for s, p in names)


class ConversionError(ValueError):
    """The tensors do not fit the table; the message lists every mismatch."""


def convert(
    tensors: Tensors,
    table: Iterable[Rule],
    model: nnx.Module,
    *,
    ignore: Iterable[str] = (),
    dtype: Any = np.float32,
) -> nnx.Module:
    """Fills an abstract `model` (from `nnx.eval_shape`) with `tensors`.

    Args:
      tensors: source name -> array.
      table: the rules; each source tensor must match exactly one of them or `ignore`.
      model: any NNX module whose parameters have shapes; its values are not read.
      ignore: regular expressions of source names that are knowingly left out
        (`num_batches_tracked` always is).
      dtype: dtype of the parameters, None to keep the source's.

    Raises:
      ConversionError: naming every unused tensor, unfilled parameter and shape mismatch at once.
    """
    graph, abstract = nnx.split(model)
    wanted = {_dotted(path): leaf for path, leaf in nnx.to_flat_state(abstract)}
    patterns = [(_pattern(rule.source), rule) for rule in table]
    ignored = re.compile("|".join((r".*num_batches_tracked", *ignore)))
    filled: dict[str, np.ndarray] = {}
    problems = []
    for name, tensor in tensors.items():
        matches = [(m, rule) for p, rule in patterns if (m := p.fullmatch(name))]
        if not matches:
            if not ignored.fullmatch(name):
                problems.append(f"{name} {tensor.shape}: no rule of the table takes it")
            continue
        match, rule = matches[0]
        path = rule.path.format(**match.groupdict())
        if path not in wanted:
            problems.append(f"{name} {tensor.shape}: the network has no parameter {path}")
            continue
        if path in filled:
            problems.append(f"{name} {tensor.shape}: {path} was already filled")
            continue
        try:
            array = rule.layout.to_flax(np.asarray(tensor))
        except (ValueError, IndexError):
            problems.append(f"{name} {tensor.shape}: cannot be laid out for {path}")
            continue
        shape = wanted[path].shape
        if array.shape != shape:
            problems.append(f"{name} {tensor.shape}: becomes {array.shape}, {path} is {shape}")
            continue
        filled[path] = np.ascontiguousarray(array, dtype or array.dtype)
    missing = wanted.keys() - filled.keys() - {p.rsplit(": ", 1)[-1] for p in problems}
    problems += [
        f"{path} {wanted[path].shape}: no source tensor fills it" for path in sorted(missing)
    ]
    if problems:
        raise ConversionError(
            f"the weights do not fit this network ({len(problems)} mismatches):\n  "
            + "\n  ".join(problems)
        )
    state = nnx.from_flat_state(
        [
            (path, leaf.replace(jax.numpy.asarray(filled[_dotted(path)])))
            for path, leaf in nnx.to_flat_state(abstract)
        ]
    )
    return nnx.merge(graph, state)


def export(model: nnx.Module, table: Iterable[Rule]) -> dict[str, np.ndarray]:
    """The inverse of `convert` on an unfolded model: source name -> array in the source's layout.

    Raises:
      ConversionError: if a parameter matches no rule (as after `fold_batch_norm`).
    """
    patterns = [(_pattern(rule.path), rule) for rule in table]
    tensors = {}
    for path, leaf in nnx.to_flat_state(nnx.state(model)):
        dotted = _dotted(path)
        matches = [(m, rule) for p, rule in patterns if (m := p.fullmatch(dotted))]
        if not matches:
            raise ConversionError(f"no rule of the table exports {dotted}")
        match, rule = matches[0]
        array = rule.layout.to_source(np.asarray(leaf[...]))
        tensors[rule.source.format(**match.groupdict())] = np.ascontiguousarray(array)
    return tensors


def _pattern(template: str) -> re.Pattern[str]:
    """A regular expression for a dotted name whose `{name}` matches one component."""
    literal = re.split(r"\{(\w+)\}", template)
    seen: set[str] = set()
    parts = []
    for position, piece in enumerate(literal):
        if position % 2 == 0:
            parts.append(re.escape(piece))
        elif piece in seen:
            parts.append(f"(?P={piece})")
        else:
            seen.add(piece)
            parts.append(f"(?P<{piece}>[^.]+)")
    return re.compile("".join(parts))


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in path)
