"""What a graph file holds besides its weights: the operations, in order of execution."""

from typing import Any, NamedTuple

import numpy as np


class Operation(NamedTuple):
    kind: str  # the format's own name, "Conv" or "CONV_2D"
    inputs: tuple[str, ...]  # tensor names; "" for an omitted optional input
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


class Graph(NamedTuple):
    tensors: dict[str, np.ndarray]  # the weights, by name
    operations: tuple[Operation, ...]
    inputs: tuple[str, ...]  # names of what the caller feeds
    outputs: tuple[str, ...]
