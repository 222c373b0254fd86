"""Eight devices do what one does, byte for byte, and do not speak to each other."""

import os
import re

import jax
import numpy as np
import pytest

from tests.bulk import world
from tipim_jax.core import batching
from tipim_jax.core.geometry import CANVAS_LANDMARKS
from tipim_jax.photos import compilation, engine, programs
from tipim_jax.photos.faces import align

COLLECTIVES = re.compile(
    r"all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter"
    r"|ragged-all-to-all|\bsend\b|\brecv\b"
)


def on_eight(photos, folder):
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    world.run(photos, folder / "out", folder / "work", devices=8)
    program = world.small_engine(8).full().run
    (folder / "hlo.txt").write_text(program.as_text())
    assert len(program.input_shardings[0][3].device_set) == 8


def test_eight_devices_give_the_bytes_of_one_and_no_collective(undisturbed, tmp_path):
    process = world.start(on_eight, undisturbed.photos, tmp_path)
    process.join()
    assert process.exitcode == 0
    assert world.files(tmp_path / "out") == undisturbed.output
    hlo = (tmp_path / "hlo.txt").read_text()
    assert "num_partitions=8" in hlo
    assert COLLECTIVES.findall(hlo) == []


def on_four_with_shares(folder):
    """Parameters shared out over the devices, and programs that are kept."""
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
    devices = jax.local_devices()
    whole, shared = (world.small_engine(4, shard_params=sharded) for sharded in (False, True))
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 256, (7, 160, 160, 3), np.uint8)
    found = [align(photo, CANVAS_LANDMARKS, (40.0, 40.0, 80.0, 100.0)) for photo in photos]
    keys = list(jax.random.split(jax.random.key(1), 7))
    faces = (found, [np.eye(3, dtype=np.float32)] * 7, keys)
    masks = [engine.attack_faces(used, used.full(), *faces).masks for used in (whole, shared)]
    assert np.abs(masks[0]).max() > 1
    np.testing.assert_array_equal(*masks)
    for name, leaf in shared.params[0].items():
        (share,) = {shard.data.size for shard in leaf.addressable_shards}
        assert share == leaf.size // 4, name
    sizes = [used.full().run.memory_analysis().argument_size_in_bytes for used in (whole, shared)]
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(whole.params))
    assert sizes[0] - sizes[1] == parameters * 3 // 4
    assert COLLECTIVES.findall(whole.full().run.as_text()) == []
    assert set(COLLECTIVES.findall(shared.full().run.as_text())) == {"all-gather"}
    # Gathered in the loop over steps, not kept through it.
    assert re.search(
        r"%(wide\.)?region\S*.*\{(?:(?!\n\}).)*all-gather", shared.full().run.as_text(), re.S
    )
    # Traced for some devices and compiled for others, it is the same program.
    programs.keep_in(folder / "kept")
    for used, options in ((whole, {}), (shared, {"shard_params": True})):
        for _ in range(2):
            world.small_engine.cache_clear()
            kept = world.small_engine(4, kept=str(folder), **options)
            np.testing.assert_array_equal(
                engine.attack_faces(kept, kept.full(), *faces).masks, masks[0]
            )
        lying = [made.full().run.input_shardings[0][0] for made in (kept, used)]
        assert lying[0] == lying[1]  # the parameters
    for first in (0, 3):
        single = world.small_engine(1, first=first, kept=str(folder))
        parts = [[row[i : i + 4] for row in faces] for i in (0, 4)]
        part = [engine.attack_faces(single, single.full(), *given).masks for given in parts]
        np.testing.assert_array_equal(np.concatenate(part), masks[0])
    assert len(list((folder / "kept").glob("traced-*"))) == 3
    # Left open, a batch is the largest that pays, or that fits.
    open_ = world.SETTINGS._replace(batch_size=None)
    mesh = compilation.mesh_over(devices)
    compiled = compilation.make_compiler(
        [world.recogniser()], [1.0], (3, 12), open_, mesh, composed=world.light
    )
    most = compilation.compile_full_batch(compiled, open_, mesh, limit=1 << 40)
    fewer = compilation.compile_full_batch(compiled, open_, mesh, limit=batching.memory(most) - 1)
    sizes = [compilation.batch_size(program) // 4 for program in (most, fewer)]
    assert sizes[0] == compilation.MAX_BATCH_ON_CPU
    assert sizes[1] < sizes[0]
    assert batching.memory(fewer) < batching.memory(most)
    (folder / "done").touch()


@pytest.mark.slow
def test_shared_out_parameters_give_the_same_bytes(tmp_path):
    process = world.start(on_four_with_shares, tmp_path)
    process.join()
    assert process.exitcode == 0
    assert (tmp_path / "done").exists()
