"""Where protected photos go: staged one by one, and published a whole shard at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from array_record.python import array_record_module

from tipim_jax.bulk import storage
from tipim_jax.bulk.storage import Folder

PHOTOS = "photos"  # the folder of the outputs


class Staged(NamedTuple):
    """A finished photo that is not published yet.

    Attributes:
      output: its name below the folder of photos.
      path: the local file.
    """

    output: str
    path: Path


class Sink(NamedTuple):
    """How shards are published.

    Attributes:
      location: (shard's name, output's name, position among the outputs) -> what the row says of it.
      publish: (shard's name, outputs in order) -> None; done twice it leaves the same files.
    """

    location: Callable[[str, str, int], str]
    publish: Callable[[str, list[Staged]], None]


def to_folder(out: Folder) -> Sink:
    """Every photo a file, in the tree of the inputs."""

    def publish(shard: str, photos: list[Staged]) -> None:
        for photo in photos:
            storage.move_into(out, f"{PHOTOS}/{photo.output}", photo.path)

    return Sink(lambda shard, output, position: f"{PHOTOS}/{output}", publish)


def to_array_records(out: Folder) -> Sink:
    """Every shard an ArrayRecord file, each record an encoded photo; the rows say which is which."""

    def file(shard: str) -> str:
        return f"{PHOTOS}/photos-{shard}.array_record"

    def publish(shard: str, photos: list[Staged]) -> None:
        if not photos:
            return
        whole = photos[0].path.with_name("shard.array_record")
        writer = array_record_module.ArrayRecordWriter(str(whole), "group_size:1")
        for photo in photos:
            writer.write(photo.path.read_bytes())
        writer.close()
        storage.move_into(out, file(shard), whole)

    return Sink(lambda shard, output, position: f"{file(shard)}:{position}", publish)
