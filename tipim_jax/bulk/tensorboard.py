"""A writer of TensorBoard scalars, where the extra `tensorboard` is installed."""

from pathlib import Path
from typing import Any

from tipim_jax.errors import UserError


def open_writer(folder: Path) -> Any:
    """A `tensorboardX.SummaryWriter` whose event files go to `folder`.

    Raises:
      UserError: the extra `tensorboard` is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise UserError('TensorBoard scalars need `pip install "tipim-jax[tensorboard]"`') from None
    # Events are on the disk at once, so that a run can be watched and a killed one leaves what it knew.
    return SummaryWriter(str(folder), flush_secs=0)
