"""The photos of a job, by number: those of a folder, of a list of paths, or of ArrayRecord shards.

A job's list is frozen when it starts: photos that come or go later change no other photo's number.
"""

import csv
import io
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tipim_jax.bulk import storage
from tipim_jax.bulk.storage import Folder
from tipim_jax.photos.formats import is_photo, other_suffix
from tipim_jax.photos.photo import PhotoError

MAX_BYTES = 512 * 2**20  # of an encoded photo; more is no photo
LIST = "work.parquet"
COLUMN = "photo"  # of a list of paths
_GROUP = 65_536  # paths kept in memory by a reader of the list


class Source(NamedTuple):
    """Photos by number; the functions may be called from many threads.

    Attributes:
      photos: how many.
      name: number -> relative path, another for every photo.
      read: number -> the encoded photo; OSError or PhotoError.
    """

    photos: int
    name: Callable[[int], str]
    read: Callable[[int], bytes]


def list_photos(folder: Folder) -> list[str]:
    """The files with a photo's suffix below a folder, sorted, relative to it."""
    return sorted(name for name in storage.list_files(folder) if is_photo(name))


def read_manifest(manifest: bytes, name: str) -> list[str]:
    """The paths of a Parquet file (column `photo`) or CSV file (a column `photo`, or one alone).

    Raises:
      ValueError: it has no such column.
    """
    if name.endswith(".parquet"):
        table = pq.read_table(io.BytesIO(manifest))
        if COLUMN not in table.column_names:
            raise ValueError(f"{name} has no column {COLUMN!r}; give the paths in one of that name")
        return table.column(COLUMN).to_pylist()
    rows = [row for row in csv.reader(io.StringIO(manifest.decode("utf-8"))) if row]
    if rows and COLUMN in rows[0]:
        column = rows[0].index(COLUMN)
        return [row[column] for row in rows[1:]]
    if any(len(row) != 1 for row in rows):
        raise ValueError(f"{name} has no column {COLUMN!r}; give the paths in one of that name")
    return [row[0] for row in rows]


def output_name(name: str, format: str | None) -> str:
    """Where a photo goes, relative to the output: a format adds its suffix where it is another."""
    return name + (other_suffix(name, format) or "")


def freeze(out: Folder, paths: Iterable[str], format: str | None) -> None:
    """Writes the list of a job to its output.

    Raises:
      ValueError: a path is absolute, leaves the folder or is named twice; or two photos would be
        saved as one file; or there is none.
    """
    buffer, seen = io.BytesIO(), set()
    paths = iter(paths)
    with pq.ParquetWriter(buffer, pa.schema([(COLUMN, pa.string())])) as writer:
        while part := list(islice(paths, _GROUP)):
            for path in part:
                if path.startswith("/") or "://" in path or ".." in path.split("/"):
                    raise ValueError(f"{path} is not below the input folder; give relative paths")
                digest = hash(output_name(path, format))  # 64 bits: all the paths may not fit
                if digest in seen:
                    raise ValueError(f"{path} is named twice or would overwrite another photo")
                seen.add(digest)
            writer.write_table(pa.table({COLUMN: part}))
    if not seen:
        raise ValueError("the input holds no photo")
    storage.write(out, LIST, buffer.getvalue())


def open_list(out: Folder, inputs: Folder) -> Source:
    """The photos of a frozen list, read below `inputs`."""
    rows = _Rows(pq.ParquetFile(out.fs.open(out.at(LIST), "rb")))

    def read(number: int) -> bytes:
        return _checked(storage.read(inputs, rows[number], MAX_BYTES), rows[number])

    return Source(len(rows), rows.__getitem__, read)


class _Rows:
    """Random access to the one column of a Parquet file, a few row groups in memory."""

    def __init__(self, file: Any) -> None:
        metadata = file.metadata
        counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._file, self._ends = file, np.cumsum(counts)
        self._groups: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: int) -> str:
        group = int(np.searchsorted(self._ends, row, side="right"))
        with self._lock:
            if group not in self._groups:
                while len(self._groups) > 2:  # readers are never far apart
                    self._groups.pop(min(self._groups))
                self._groups[group] = self._file.read_row_group(group).column(0)
            column = self._groups[group]
        start = int(self._ends[group - 1]) if group else 0
        return column[row - start].as_py()


def match_files(pattern: str) -> list[str]:
    """The files of a comma-separated list of paths and patterns, each sorted.

    Raises:
      ValueError: one of them matches nothing.
    """
    files = []
    for part in pattern.split(","):
        folder = storage.folder_at(part)
        found = sorted(folder.fs.glob(folder.root))
        if not found:
            raise ValueError(f"{part} matches no file")
        files += found
    return files


def open_array_records(files: Sequence[str]) -> Source:
    """The records of ArrayRecord files, each an encoded photo, named `file/number`."""
    import grain
    from array_record.python import array_record_module

    records = grain.sources.ArrayRecordDataSource(files)
    counts = []
    for file in files:
        reader = array_record_module.ArrayRecordReader(file)
        counts.append(reader.num_records())
        reader.close()
    ends = np.cumsum(counts)
    stems = [file.rsplit("/", 1)[-1] for file in files]

    def name(number: int) -> str:
        file = int(np.searchsorted(ends, number, side="right"))
        return f"{stems[file]}/{number - int(ends[file] - counts[file]):08d}"

    return Source(len(records), name, lambda number: _checked(records[number], name(number)))


def open_data_set(folder: str, split: str, feature: str = "image") -> Source:
    """The photos of a TFDS data set that was prepared as ArrayRecord, named `split/number`.

    Args:
      folder: of the prepared data set, where its `dataset_info.json` is.
      split: its name; the first one if empty.
      feature: that holds the photo.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    split = split or next(iter(builder.info.splits))
    decoders = {feature: tfds.decode.SkipDecoding()}
    records = builder.as_data_source(split, decoders=decoders)

    def name(number: int) -> str:
        return f"{split}/{number:08d}"

    return Source(
        len(records), name, lambda number: _checked(records[number][feature], name(number))
    )


def _checked(data: bytes, name: str) -> bytes:
    if len(data) > MAX_BYTES:
        raise PhotoError(f"{name} has more than {MAX_BYTES >> 20} MiB; make it smaller")
    return data
