"""One process per host: they learn who they are from JAX's runtime, agree on the job, and part.

After that nobody needs anybody: a step runs on the devices of its own process, no collective is in it,
and what the processes tell each other are the row files. So a process that is lost, preempted or done
early neither stops nor delays the others, which the runtime would see to otherwise (it ends all
processes when one is missing).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.experimental import multihost_utils


class Process(NamedTuple):
    """Which process this is: the one of number `process`, of `processes`."""

    process: int
    processes: int


def agree_on_job(
    first: Callable[[], None],
    everyone: Callable[[], None],
    *,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    join: bool = True,
) -> Process:
    """Calls `first` in process 0, then `everyone` in all; the processes are on their own afterwards.

    Args:
      first: writes what the others will read.
      everyone: reads it.
      coordinator: `host:port` of process 0; from the cluster's environment (SLURM, Kubernetes, TPU
        pods) by default.
      processes, process: their number, and which one this is; likewise.
      join: whether there are others at all.
    """
    if not join:
        first()
        everyone()
        return Process(0, 1)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, processes, process)
    here = Process(jax.process_index(), jax.process_count())
    if here.process == 0:
        first()
    multihost_utils.sync_global_devices("the job is written")
    everyone()
    multihost_utils.sync_global_devices("the job is read")
    jax.distributed.shutdown()
    return here
