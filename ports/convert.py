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

from tipim_jax.errors import UserError

Tensors = Mapping[str, np.ndarray]


class Layout(NamedTuple):
    """How one tensor is laid out in the source and in Flax; the two functions are inverses."""

    to_flax: Callable[[np.ndarray], np.ndarray]
    to_source: Callable[[np.ndarray], np.ndarray]


SAME = Layout(lambda a: a, lambda a: a)
CONV = Layout(lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))  # OIHW, HWIO
# squeeze refuses an axis longer than one, where an index would drop weights
DEPTHWISE = Layout(
    lambda a: a.squeeze(1).transpose(1, 2, 0), lambda a: a.transpose(2, 0, 1)[:, None]
)
LINEAR = Layout(lambda a: a.T, lambda a: a.T)
PER_CHANNEL = Layout(lambda a: a[:, 0, 0], lambda a: a[:, None, None])  # PReLU in ONNX: (C,1,1), C
# A linear layer that its source writes as a 1×1 convolution, and the other way round
POINTWISE = Layout(lambda a: a.squeeze((2, 3)).T, lambda a: a.T[:, :, None, None])
LINEAR_AS_CONV = Layout(lambda a: a.T[None, None], lambda a: a.squeeze((0, 1)).T)


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


def prefixed(table: Iterable[Rule], prefix: str) -> tuple[Rule, ...]:
    """The table followed by itself with `prefix` before every source name: either is taken."""
    rules = tuple(table)
    return (*rules, *(rule._replace(source=prefix + rule.source) for rule in rules))


class ConversionError(UserError):
    """The tensors do not fit the table; the message lists every mismatch in a line of its own."""

    def __str__(self) -> str:
        return str(self.args[0])


def convert(
    tensors: Tensors,
    table: Iterable[Rule],
    model: nnx.Module,
    *,
    ignore: Iterable[str] = (),
    dtype: Any = np.float32,
) -> nnx.Module:
    """Fills `model` with `tensors`.

    Args:
      tensors: source name -> array.
      table: the rules; of those that match a name the first is taken.
      model: any NNX module whose parameters have shapes; its values are not read.
      ignore: regular expressions of source names that are knowingly left out
        (`num_batches_tracked` always is).
      dtype: dtype of the parameters, None to keep the source's.

    Raises:
      ConversionError: naming every unused tensor, unfilled parameter and shape mismatch at once.
    """
    filled, problems = _assign(tensors, table, model, ignore)
    if problems:
        raise ConversionError(
            f"the weights do not fit this network ({len(problems)} mismatches):\n  "
            + "\n  ".join(problems)
        )
    graph, abstract = nnx.split(model)
    state = []
    for path, leaf in nnx.to_flat_state(abstract):
        array = filled[_dotted(path)]
        array = np.ascontiguousarray(array, array.dtype if dtype is None else dtype)
        state.append((path, leaf.replace(array)))
    # at once and not by jax.numpy.asarray, which compiles a program for every new shape
    return nnx.merge(graph, jax.device_put(nnx.from_flat_state(state)))


def mismatches(
    tensors: Tensors, table: Iterable[Rule], model: nnx.Module, *, ignore: Iterable[str] = ()
) -> list[str]:
    """What `convert` would complain about, one line each; empty if it would succeed."""
    return _assign(tensors, table, model, ignore)[1]


def unknown_names(
    names: Iterable[str], table: Iterable[Rule], *, ignore: Iterable[str] = ()
) -> list[str]:
    """The source names that neither a rule nor `ignore` takes."""
    patterns = [_pattern(rule.source) for rule in table]
    ignored = _ignored(ignore)
    return [
        name
        for name in names
        if not ignored.fullmatch(name) and not any(p.fullmatch(name) for p in patterns)
    ]


def _assign(
    tensors: Tensors, table: Iterable[Rule], model: nnx.Module, ignore: Iterable[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """(parameter path -> array laid out for Flax, every mismatch)."""
    wanted = {_dotted(path): leaf.shape for path, leaf in nnx.to_flat_state(nnx.state(model))}
    patterns = [(_pattern(rule.source), rule) for rule in table]
    ignored = _ignored(ignore)
    filled: dict[str, np.ndarray] = {}
    blamed: set[str] = set()  # parameters whose tensor is there but does not fit
    problems = []
    for name, tensor in tensors.items():
        taken = next(((m, rule) for p, rule in patterns if (m := p.fullmatch(name))), None)
        if taken is None:
            if not ignored.fullmatch(name):
                problems.append(f"{name} {tensor.shape}: no rule of the table takes it")
            continue
        match, rule = taken
        path = rule.path.format(**match.groupdict())
        if path not in wanted:
            problems.append(f"{name} {tensor.shape}: the network has no parameter {path}")
            continue
        if path in filled:
            problems.append(f"{name} {tensor.shape}: {path} was already filled")
            continue
        shape = wanted[path]
        try:
            array = rule.layout.to_flax(np.asarray(tensor))
        except (ValueError, IndexError):
            problems.append(f"{name} {tensor.shape}: cannot be laid out for {path} {shape}")
            blamed.add(path)
            continue
        if array.shape != shape:
            problems.append(f"{name} {tensor.shape}: becomes {array.shape}, {path} is {shape}")
            blamed.add(path)
            continue
        filled[path] = array
    problems += [
        f"{path} {wanted[path]}: no source tensor fills it"
        for path in sorted(wanted.keys() - filled.keys() - blamed)
    ]
    return filled, problems


def _ignored(ignore: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join((r".*num_batches_tracked", *ignore)))


def export(model: nnx.Module, table: Iterable[Rule]) -> dict[str, np.ndarray]:
    """The inverse of `convert` on an unfolded model: source name -> array in the source's layout.

    Raises:
      ValueError: if a parameter matches no rule (as after `fold_batch_norm`).
    """
    return {
        name: np.ascontiguousarray(array)
        for name, array in _exported(nnx.state(model), table).items()
    }


def _exported(state: nnx.State[Any, Any], table: Iterable[Rule]) -> dict[str, np.ndarray]:
    patterns = [(_pattern(rule.path), rule) for rule in table]
    tensors = {}
    for path, leaf in nnx.to_flat_state(state):
        dotted = _dotted(path)
        taken = next(((m, rule) for p, rule in patterns if (m := p.fullmatch(dotted))), None)
        if taken is None:
            raise ValueError(f"no rule of the table exports {dotted}")
        match, rule = taken
        name = rule.source.format(**match.groupdict())
        tensors[name] = rule.layout.to_source(np.asarray(leaf[...]))
    return tensors


def source_shapes(model: nnx.Module, table: Iterable[Rule]) -> dict[str, tuple[int, ...]]:
    """Source name -> shape of every tensor that `model`, abstract or not, is filled from."""
    blank = jax.tree.map(lambda leaf: np.empty(leaf.shape, np.bool_), nnx.state(model))
    return {name: array.shape for name, array in _exported(blank, table).items()}


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
