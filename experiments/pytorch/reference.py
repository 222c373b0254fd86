"""A network in PyTorch under the tensor names of its published checkpoint."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn


class Reference(NamedTuple):
    """A module in eval mode; `released` turns a name of its state dict into the published one."""

    module: nn.Module
    released: Callable[[str], str]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Published name -> shape, without the counters of BatchNorm."""
        return {
            self.released(name): tuple(value.shape)
            for name, value in self.module.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }

    def load(self, tensors: dict[str, np.ndarray]) -> None:
        """Fills every tensor of the module and freezes it."""
        state = {
            name: torch.zeros((), dtype=torch.int64)
            if name.endswith("num_batches_tracked")
            else torch.from_numpy(tensors[self.released(name)].copy())  # what was read is frozen
            for name in self.module.state_dict()
        }
        self.module.load_state_dict(state, assign=True)
        self.module.eval().requires_grad_(False)
