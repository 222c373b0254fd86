"""Eight devices do what one does, byte for byte, and do not speak to each other."""

import os
import re

from tests.bulk import world

COLLECTIVES = re.compile(
    r"all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter"
    r"|ragged-all-to-all|\bsend\b|\brecv\b"
)


def on_eight(photos, folder):
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    world.run(photos, folder / "out", folder / "work", devices=8)
    program = world.small_engine(8).program
    (folder / "hlo.txt").write_text(program.as_text())
    assert len(program.input_shardings[0][3].device_set) == 8


def test_eight_devices_give_the_bytes_of_one_and_no_collective(undisturbed, tmp_path):
    process = world.start(on_eight, undisturbed.photos, tmp_path)
    process.join(120)
    assert process.exitcode == 0
    assert world.files(tmp_path / "out") == undisturbed.output
    hlo = (tmp_path / "hlo.txt").read_text()
    assert "num_partitions=8" in hlo
    assert COLLECTIVES.findall(hlo) == []
