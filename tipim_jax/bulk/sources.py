"""The photos of a job, by number: those of a folder, of a list of paths, or of ArrayRecord shards.

A job's list is frozen when it starts: photos that come or go later change no other photo's number.
"""

import csv
import io
import posixpath
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tipim_jax.bulk import storage
from tipim_jax.bulk.storage import Folder
from tipim_jax.errors import UserError
from tipim_jax.photos.folders import output_names
from tipim_jax.photos.formats import is_photo, known
from tipim_jax.photos.photo import PhotoError

MAX_BYTES = 512 * 2**20  # of an encoded photo; more is no photo
LIST = "work.parquet"
OTHER_FILES = "not_protected.csv"
COLUMN = "photo"  # of a list of paths
_LONGEST_NAME = 255  # bytes, of nearly every file system
_GROUP = 65_536  # paths kept in memory by a reader of the list


class Source(NamedTuple):
    """Photos by number; the functions may be called from many threads.

    Attributes:
      photos: how many.
      name: number -> relative path, another for every photo.
      output: (number, suffix of the format it is saved in) -> relative path of its output, another for every
        photo.
      read: number -> the encoded photo; OSError or PhotoError.
    """

    photos: int
    name: Callable[[int], str]
    output: Callable[[int, str], str]
    read: Callable[[int], bytes]


class Listing(NamedTuple):
    """The files of a folder, sorted, relative to it.

    Attributes:
      photos: those with a photo's suffix.
      others: all others, which are not protected, and why: (file, reason).
    """

    photos: list[str]
    others: list[tuple[str, str]]


def list_folder(folder: Folder) -> Listing:
    """Lists the files in a folder and below it, hidden ones aside.

    Raises:
      UserError: the folder, or one below it, cannot be read.
    """
    listing = Listing([], [])
    try:
        for name in storage.list_files(folder):
            if not is_photo(name):
                listing.others.append((name, f"its suffix is none of {known()}"))
            elif not _is_utf8(name):
                listing.others.append((name, "its name is not UTF-8; rename it"))
            else:
                listing.photos.append(name)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename or folder.root} does not exist") from None
    except PermissionError as error:
        raise UserError(
            f"{error.filename or folder.root} cannot be read ({error.strerror})"
        ) from None
    listing.photos.sort()
    listing.others.sort()
    return listing


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_manifest(manifest: bytes, name: str) -> list[str]:
    """Reads the paths of photos from a manifest.

    Args:
      manifest: a Parquet or CSV file with a column `photo`, or a CSV file of one column without a header.
      name: of the file; its suffix says which of them it is.

    Raises:
      UserError: it is not such a file, or a row has no path.
    """
    try:
        if name.endswith(".parquet"):
            paths = _column_of_parquet(manifest, name)
        else:
            paths = _column_of_csv(manifest, name)
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{name} cannot be read as a list of photos ({error})") from None
    for row, path in enumerate(paths, 1):
        if not isinstance(path, str) or not path:
            raise UserError(f"row {row} of {name} has no path in the column {COLUMN!r}")
    return paths


def _column_of_parquet(manifest: bytes, name: str) -> list[Any]:
    file = pq.ParquetFile(io.BytesIO(manifest))
    _check_columns(file.schema_arrow.names, name)
    return file.read([COLUMN]).column(COLUMN).to_pylist()


def _column_of_csv(manifest: bytes, name: str) -> list[Any]:
    text = manifest.decode(
        "utf-8-sig"
    )  # spreadsheets begin their files with a mark of the encoding
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    if not rows or (len(rows[0]) == 1 and is_photo(rows[0][0])):
        rows.insert(0, [COLUMN])  # a bare list
    header, *rows = rows
    _check_columns(header, name)
    column = header.index(COLUMN)
    return [row[column] if column < len(row) else None for row in rows]


def _check_columns(columns: Sequence[str], name: str) -> None:
    if list(columns).count(COLUMN) != 1:
        raise UserError(
            f"{name} has the columns {', '.join(map(repr, columns))}; "
            f"name the one that holds the paths {COLUMN!r}"
        )


def freeze(
    out: Folder, paths: Iterable[str], format: str | None, others: Sequence[tuple[str, str]] = ()
) -> None:
    """Writes the list of a job to its output.

    Args:
      out: the output of the job.
      paths: of the photos, below the input folder.
      format: that they are saved in; each its own by default. It has a say in the names of outputs
        (`folders.output_names`).
      others: (file, reason) of those that are left aside, for `not_protected.csv`.

    Raises:
      UserError: a path is absolute, leaves the folder or is named twice; or there is none.
    """
    paths = list(paths)
    if not paths:
        raise UserError(f"the input holds no photo ({known()})")
    seen: set[str] = set()
    for path in paths:
        if path.startswith("/") or "://" in path or ".." in path.split("/"):
            raise UserError(f"{path} is not below the input folder; give relative paths")
        if (plain := posixpath.normpath(path)) in seen:
            raise UserError(f"{path} is named twice; name every photo once")
        seen.add(plain)
    outputs = output_names([posixpath.normpath(path) for path in paths], format)
    for path, output in zip(paths, outputs, strict=True):
        if len(posixpath.basename(output).encode()) > _LONGEST_NAME:
            raise UserError(f"{path} would be saved under a name that is too long; rename it")
    if others:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("file", "reason"), *others])
        storage.write(out, OTHER_FILES, text.getvalue().encode("utf-8", "backslashreplace"))
    buffer = io.BytesIO()
    table = pa.table({COLUMN: pa.array(paths, pa.string()), "output": outputs})
    pq.write_table(table, buffer, row_group_size=_GROUP)
    storage.write(out, LIST, buffer.getvalue())


def count_others(out: Folder) -> int:
    """How many files a job has left aside."""
    if not storage.exists(out, OTHER_FILES):
        return 0
    text = storage.read(out, OTHER_FILES).decode("utf-8")
    return sum(1 for _ in csv.reader(io.StringIO(text, newline=""))) - 1


def open_list(out: Folder, inputs: Folder) -> Source:
    """The photos of a frozen list, read below `inputs`."""
    rows = _Rows(pq.ParquetFile(out.fs.open(out.at(LIST), "rb")))

    def name(number: int) -> str:
        return rows[number][0]

    def output(number: int, suffix: str) -> str:
        return rows[number][1]

    def read(number: int) -> bytes:
        return _checked(storage.read(inputs, name(number), MAX_BYTES), name(number))

    return Source(len(rows), name, output, read)


class _Rows:
    """Random access to the rows of a list, (photo, output), a few row groups in memory."""

    def __init__(self, file: Any) -> None:
        metadata = file.metadata
        counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._file, self._ends = file, np.cumsum(counts)
        self._groups: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: int) -> tuple[str, str]:
        group = int(np.searchsorted(self._ends, row, side="right"))
        with self._lock:
            if group not in self._groups:
                while len(self._groups) > 2:  # readers are never far apart
                    self._groups.pop(min(self._groups))
                self._groups[group] = self._file.read_row_group(group)
            table = self._groups[group]
        start = int(self._ends[group - 1]) if group else 0
        photo, output = (column[row - start].as_py() for column in table.columns)
        return photo, output


def match_files(pattern: str) -> list[str]:
    """The files of a comma-separated list of paths and patterns, each sorted, none of them twice.

    Raises:
      UserError: one of them matches nothing.
    """
    files = []
    for part in pattern.split(","):
        folder = storage.folder_at(part)
        found = sorted(folder.fs.glob(folder.root))
        if not found:
            raise UserError(f"{part} matches no file")
        files += found
    return list(dict.fromkeys(files))


def open_array_records(files: Sequence[str]) -> Source:
    """The records of ArrayRecord files, each an encoded photo, named `file/number`.

    Of files with one name in several folders the second and later ones get a number
    (`folders.output_names`).
    """
    import grain
    from array_record.python import array_record_module

    records = grain.sources.ArrayRecordDataSource(files)
    counts = []
    for file in files:
        reader = array_record_module.ArrayRecordReader(file)
        counts.append(reader.num_records())
        reader.close()
    ends = np.cumsum(counts)
    stems = output_names([file.rsplit("/", 1)[-1] for file in files])

    def name(number: int) -> str:
        file = int(np.searchsorted(ends, number, side="right"))
        return f"{stems[file]}/{number - int(ends[file] - counts[file]):08d}"

    return Source(
        len(records),
        name,
        lambda number, suffix: name(number) + suffix,
        lambda number: _checked(records[number], name(number)),
    )


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
        len(records),
        name,
        lambda number, suffix: name(number) + suffix,
        lambda number: _checked(records[number][feature], name(number)),
    )


def _checked(data: bytes, name: str) -> bytes:
    if len(data) > MAX_BYTES:
        raise PhotoError(f"{name} has more than {MAX_BYTES >> 20} MiB; make it smaller")
    return data
