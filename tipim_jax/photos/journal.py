"""What an output folder keeps of every photo that is done, so that a run that was cut short can go on.

A line of `.tipim/journal.jsonl` is written to the disk before the photo's file gets its name: whatever ends
a run, a file that lies in the folder has its proof, and a line whose file is missing counts for nothing. The
lines hold no picture, but paths and figures of the originals.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tipim_jax.errors import UserError
from tipim_jax.photos.files import digest, unwritten
from tipim_jax.photos.folders import Job
from tipim_jax.photos.records import photo_from_json, photo_json
from tipim_jax.photos.results import PhotoResult

FILE = Path(".tipim") / "journal.jsonl"


class Stamp(NamedTuple):
    """A file as it was read.

    Attributes:
      path: absolute.
      size: bytes.
      changed: nanoseconds, of its last change.
      sha256: of its bytes.
    """

    path: str
    size: int
    changed: int
    sha256: str


def stamp(path: Path) -> Stamp:
    """The stamp of a file that is there.

    Raises:
      OSError: it cannot be read.
    """
    about = path.stat()
    return Stamp(os.path.abspath(path), about.st_size, about.st_mtime_ns, digest(path))


class Earlier(NamedTuple):
    """What earlier runs did of what is asked for.

    Attributes:
      done: the results of jobs that are done.
      left: the other jobs.
      replaced: output names among those left whose files are of an earlier state of the same photo.
      versions: names of the packages that had other versions then.
    """

    done: dict[Job, PhotoResult]
    left: list[Job]
    replaced: frozenset[Path]
    versions: frozenset[str]


class Journal:
    """The journal of an output folder.

    Attributes:
      out: the folder; it need not exist before `add`.
      made_with: JSON values of what decides the bytes of the files, versions of packages apart.
      versions: of packages.
      surrogates: names of the recognisers that masks are made on.
    """

    def __init__(
        self,
        out: Path,
        made_with: dict[str, Any],
        versions: dict[str, str],
        surrogates: Sequence[str],
    ) -> None:
        self.out, self.surrogates = out, tuple(surrogates)
        self.made_with: dict[str, Any] = json.loads(json.dumps(made_with))
        self.versions = versions
        self._path = out / FILE
        self._lines: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._settings: dict[str, dict[str, Any]] = {}
        self._id = _id({"made_with": self.made_with, "versions": versions})
        self._read()

    def look_up(self, jobs: Sequence[Job]) -> Earlier:
        """Which jobs are done.

        Raises:
          UserError: files of some were made with other settings.
        """
        done, left, replaced = {}, [], []
        conflicts: list[tuple[str, ...]] = []
        other_versions: set[str] = set()
        for job in jobs:
            line = self._line_of(job)
            if line is None:
                left.append(job)
                continue
            there = self._settings[line["settings"]]
            changed = tuple(_differences(there["made_with"], self.made_with))
            if not self._same_content(line, job.source):
                left.append(job)
                replaced.append(job.output)
            elif not changed:
                done[job] = _result(line, job, self.out)
                other_versions.update(_differences(there["versions"], self.versions))
            elif line["saved"] is None:  # no file that could be mixed with others
                left.append(job)
            else:
                conflicts.append(changed)
        if conflicts:
            names = ", ".join(dict.fromkeys(name for changed in conflicts for name in changed))
            photos = f"{len(conflicts)} of these photos" if len(jobs) > 1 else "this photo"
            raise UserError(
                f"{self.out} holds {photos}, protected with another {names}; choose another output "
                "folder, or redo them with --overwrite"
            )
        return Earlier(done, left, frozenset(replaced), frozenset(other_versions))

    def add(self, job: Job, read: Stamp, result: PhotoResult) -> None:
        """Writes the line of a photo to the disk, before its file gets its name.

        Args:
          job: of the photo.
          read: its stamp.
          result: the proof.

        Raises:
          DiskFull, PhotoError: it cannot be written.
        """
        lines = []
        if self._id not in self._settings:
            settings = {"made_with": self.made_with, "versions": self.versions}
            lines.append({"id": self._id, **settings})
            self._settings[self._id] = settings
        name = job.output.as_posix()
        line = {
            "job": name,
            "settings": self._id,
            "read": read._asdict(),
            "saved": result.sha256 or None,
            "result": photo_json(result, self.surrogates),
        }
        self._append([*lines, line])
        self._lines[name].append(line)

    def _append(self, lines: Sequence[dict[str, Any]]) -> None:
        # Paths may hold bytes that are no text; JSON's escapes carry them.
        text = "".join(json.dumps(line) + "\n" for line in lines).encode("ascii")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab+") as file:
                size = file.seek(0, os.SEEK_END)
                if size:
                    file.seek(size - 1)
                    if file.read(1) != b"\n":  # the end of a run that was killed
                        text = b"\n" + text
                try:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(self._path, size)
                    raise
        except OSError as error:
            raise unwritten(self._path, error) from error

    def _read(self) -> None:
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise UserError(f"{self._path} cannot be read ({error.strerror or error})") from error
        for part in text.splitlines():
            try:
                line = json.loads(part)
                if "id" in line:
                    self._settings[line["id"]] = line
                elif line["settings"] in self._settings:
                    photo_from_json(line["result"])
                    Stamp(**line["read"])
                    self._lines[line["job"]].append(line)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue  # a line that was cut short, as a run was killed

    def _line_of(self, job: Job) -> dict[str, Any] | None:
        """The last line of the job's photo that tells of the file that lies there, or of none if none does."""
        lines = self._lines.get(job.output.as_posix(), [])
        here = os.path.abspath(job.source)
        path = self.out / job.output
        there = digest(path) if lines and path.is_file() else None
        if there is None and path.exists():
            return None
        for line in reversed(lines):
            of_it = line["read"]["path"] == here or self._same_content(line, job.source)
            if of_it and line["saved"] == there:
                return line
        return None

    @staticmethod
    def _same_content(line: dict[str, Any], source: Path) -> bool:
        read = Stamp(**line["read"])
        try:
            about = source.stat()
            if read.size != about.st_size:
                return False
            if (read.path, read.changed) == (os.path.abspath(source), about.st_mtime_ns):
                return True
            return read.sha256 == digest(source)
        except OSError:
            return False


def _result(line: dict[str, Any], job: Job, out: Path) -> PhotoResult:
    """The result as this run would name its files."""
    result = photo_from_json(line["result"])
    output = None if line["saved"] is None else out / job.output
    return result._replace(source=job.source, output=output, sha256=line["saved"] or "")


def _differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    return [key for key in {**there, **here} if there.get(key) != here.get(key)]


def _id(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
