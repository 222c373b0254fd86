"""Four processes that meet through JAX's runtime do what one does, byte for byte, each its own shards."""

import socket

import jax
import numpy as np
from jax.experimental import multihost_utils

from tests.bulk import world
from tipim_jax.bulk import cluster


def one_of_four(photos, folder, coordinator, process):
    met = []

    def meet():
        # what gloo adds up: 0 + 1 + 2 + 3
        met.append(int(np.sum(multihost_utils.process_allgather(np.array(jax.process_index())))))

    here = cluster.agree_on_job(
        lambda: world.begin(photos, folder / "out"),
        meet,
        coordinator=coordinator,
        processes=4,
        process=process,
    )
    assert here == (process, 4)
    assert met == [6]
    world.until_terminated(photos, folder / "out", folder / "work", process=process, processes=4)


def test_four_processes_give_the_bytes_of_one(undisturbed, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    workers = [
        world.start(one_of_four, undisturbed.photos, tmp_path, coordinator, process)
        for process in range(4)
    ]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert world.files(tmp_path / "out") == undisturbed.output
