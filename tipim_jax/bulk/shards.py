"""How a job is cut into shards of photos, who does which, and which are done."""

from typing import NamedTuple

import numpy as np

from tipim_jax.bulk import storage
from tipim_jax.bulk.storage import Folder
from tipim_jax.errors import UserError

ROWS = "rows"  # the folder of the row files


class Shards(NamedTuple):
    """Shard s is the photos s·size … (s + 1)·size − 1; the processes have no say in it.

    Attributes:
      photos: of the job.
      size: photos of a shard; the last one may have fewer.
    """

    photos: int
    size: int

    @property
    def total(self) -> int:
        return -(-self.photos // self.size)

    def name(self, shard: int) -> str:
        """`00012-of-01563`."""
        return f"{shard:05d}-of-{self.total:05d}"

    def numbers(self, shard: int) -> range:
        """The photos of a shard."""
        return range(shard * self.size, min((shard + 1) * self.size, self.photos))


class Assignment(NamedTuple):
    """The photos of one process: those of every `processes`-th shard, in order.

    It is a random-access source for Grain: position -> number of the photo.
    """

    shards: Shards
    process: int
    processes: int

    @property
    def own(self) -> range:
        """The numbers of the shards."""
        return range(self.process, self.shards.total, self.processes)

    @property
    def photos(self) -> int:
        return sum(len(self.shards.numbers(s)) for s in self.own[-1:]) + self.shards.size * max(
            0, len(self.own) - 1
        )

    def photo(self, position: int) -> int:
        """The number of the photo at a position of this process."""
        shard, offset = divmod(position, self.shards.size)
        return self.own[shard] * self.shards.size + offset


def row_file(shards: Shards, shard: int) -> str:
    """The file whose presence means that a shard is done."""
    return f"{ROWS}/rows-{shards.name(shard)}.parquet"


def find_committed(out: Folder, shards: Shards) -> np.ndarray:
    """[total] bool: which shards are done, by the row files that are there.

    Raises:
      UserError: there are row files of another cut.
    """
    done = np.zeros(shards.total, bool)
    known = {row_file(shards, s).rsplit("/", 1)[-1]: s for s in range(shards.total)}
    for name in storage.list_names(out, ROWS):
        if name not in known:
            raise UserError(f"{ROWS}/{name} belongs to another job; choose another --out")
        done[known[name]] = True
    return done
