"""Reads TensorBoard event files."""

from collections.abc import Iterator
from pathlib import Path

from tensorboardX.proto import event_pb2


def scalars(file: Path) -> dict[tuple[str, int], float]:
    """(name, step) -> value."""
    events = (event_pb2.Event.FromString(record) for record in _framed(file.read_bytes()))
    return {(v.tag, event.step): v.simple_value for event in events for v in event.summary.value}


def _framed(content: bytes) -> Iterator[bytes]:
    """The records of a TFRecord file: length (8 bytes), checksum (4), the record, checksum (4)."""
    at = 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 8], "little")
        yield content[at + 12 : at + 12 + length]
        at += 16 + length
