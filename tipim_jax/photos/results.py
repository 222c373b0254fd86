"""What a run found, face by face: the records behind the table, `report.json` and `report.html`."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

REQUIRED = (
    "all",
    "seen",
    "none",
)  # judges that must no longer know a face: all, the surrogates, none


class Match(NamedTuple):
    """One recogniser's view of one face.

    Attributes:
      before: cosine of the face in the photo as it was (re-encoded alike) to the original face.
      after: cosine of the face in the saved file to the original face.
      threshold: the cosine above which the recogniser says "same person" (FAR 1e-3).
    """

    before: float
    after: float
    threshold: float

    @property
    def protected(self) -> bool:
        return self.after <= self.threshold


class Pictures(NamedTuple):
    """One face in pictures, [h,w,3] uint8 each: before, after, and 128 + 8 · (after − before)."""

    before: np.ndarray
    after: np.ndarray
    mask: np.ndarray


class OverTime(NamedTuple):
    """How a face of a clip fares in the frames that were looked at.

    Attributes:
      first, last: seconds, when it is seen.
      judged: frames of the saved file that were looked at.
      hidden: in so many of them no recogniser knows it.
      recognisers: in so many of them each does not.
    """

    first: float
    last: float
    judged: int
    hidden: int
    recognisers: dict[str, int]


class FaceResult(NamedTuple):
    """One face of one photo, or of a clip, of which it has the frame where it is hidden worst.

    Attributes:
      box: left, top, width, height in pixels of the upright photo.
      matches: recogniser -> `Match`; empty for a face that was left alone.
      psnr: dB over the face region, infinite if nothing changed.
      ssim: over the face region.
      change: the largest change of any sample of a pixel in the face region of the saved file, pixel levels.
      target: what the face was moved towards.
      skipped: why the face was left alone; empty if it was not.
      pictures: for `report.html`.
      over_time: of a clip; then every match is that of the frame where the recogniser comes closest, PSNR and
        SSIM are means over the frames, and box and pictures are of the frame that is recognised most.
    """

    box: tuple[float, float, float, float]
    matches: dict[str, Match]
    psnr: float = float("inf")
    ssim: float = 1.0
    change: int = 0
    target: str = ""
    skipped: str = ""
    pictures: Pictures | None = None
    over_time: OverTime | None = None

    @property
    def protected(self) -> bool:
        """Whether no recogniser knows the face any more."""
        return bool(self.matches) and all(match.protected for match in self.matches.values())

    def satisfies(self, required: str, surrogates: Collection[str]) -> bool:
        """Whether the judges that are required, one of `REQUIRED`, know the face no more, and there is one."""
        if required == "none":
            return True
        asked = [m for name, m in self.matches.items() if required == "all" or name in surrogates]
        return bool(asked) and all(match.protected for match in asked)


class PhotoResult(NamedTuple):
    """One photo.

    Attributes:
      source: the input file.
      output: the file written; None if none was.
      faces: in the order found.
      error: why the photo was not done; empty if it was.
      notes: what else the user should know.
      faceless: why there is nothing to protect, which is no error, and nothing was saved; empty otherwise.
      change: the largest change of any sample of a pixel in the saved file, pixel levels; the encoder's
        share is included.
      earlier: whether an earlier run did it.
      fault: traceback of an error that is the program's and not the photo's.
      sha256: of the file written; empty if none was.
    """

    source: Path
    output: Path | None = None
    faces: tuple[FaceResult, ...] = ()
    error: str = ""
    notes: tuple[str, ...] = ()
    faceless: str = ""
    change: int = 0
    earlier: bool = False
    fault: str = ""
    sha256: str = ""

    def judged_again(self, faces: Sequence[FaceResult]) -> "PhotoResult":
        """The same photo with its faces, in the same order, measured once more."""
        pairs = zip(faces, self.faces, strict=True)
        named = (face._replace(target=before.target) for face, before in pairs)
        return self._replace(faces=tuple(named))


class Timings(NamedTuple):
    """Wall-clock seconds: the whole run, compilation in it, and the attack without compilation."""

    total: float
    compile: float
    attack: float


class RunResult(NamedTuple):
    """One run of `tipim protect`.

    Attributes:
      photos: in the order of the inputs.
      surrogates: the recognisers the masks were made on.
      settings: the options that decide the result, seed included; JSON values.
      versions: package -> version.
      timings: see `Timings`.
      others: files of the inputs' folders that are no photos as far as their names tell.
      unreached: how many photos the run ended before, as it was interrupted or the disk was full.
    """

    photos: tuple[PhotoResult, ...]
    surrogates: tuple[str, ...]
    settings: dict[str, Any]
    versions: dict[str, str]
    timings: Timings
    others: tuple[Path, ...] = ()
    unreached: int = 0

    @property
    def judged_by_surrogates_alone(self) -> bool:
        """Whether every recogniser that judged a face is one that the masks were made on."""
        judges = {name for photo in self.photos for face in photo.faces for name in face.matches}
        return bool(judges) and judges <= set(self.surrogates)


class Summary(NamedTuple):
    """Counts of a run.

    Attributes:
      photos, failed, faceless, earlier: all photos, those not done, those without a face to protect, and those
        that an earlier run did.
      faces, skipped, protected: all faces, those left alone, those no recogniser knows any more.
      recognisers: how many faces each recogniser no longer knows.
      change: the largest of any pixel in a saved file, pixel levels.
      psnr, ssim: means over the faces that were changed; NaN if none was.
      seconds_per_face: attack time, compilation apart, per face that this run made a mask of.
    """

    photos: int
    failed: int
    faceless: int
    earlier: int
    faces: int
    skipped: int
    protected: int
    recognisers: dict[str, int]
    change: int
    psnr: float
    ssim: float
    seconds_per_face: float


def summarise(run: RunResult) -> Summary:
    """Counts a run's results."""
    faces = [face for photo in run.photos for face in photo.faces]
    treated = [face for face in faces if not face.skipped]
    changed = [face for face in treated if np.isfinite(face.psnr)]
    made_now = [
        face
        for photo in run.photos
        if not photo.earlier
        for face in photo.faces
        if not face.skipped
    ]
    names = dict.fromkeys(name for face in treated for name in face.matches)
    return Summary(
        photos=len(run.photos),
        failed=sum(bool(photo.error) for photo in run.photos),
        faceless=sum(bool(photo.faceless) for photo in run.photos),
        earlier=sum(photo.earlier for photo in run.photos),
        faces=len(faces),
        skipped=len(faces) - len(treated),
        protected=sum(face.protected for face in treated),
        recognisers={
            name: sum(name in face.matches and face.matches[name].protected for face in treated)
            for name in names
        },
        change=max((photo.change for photo in run.photos), default=0),
        psnr=float(np.mean([face.psnr for face in changed])) if changed else float("nan"),
        ssim=float(np.mean([face.ssim for face in changed])) if changed else float("nan"),
        seconds_per_face=run.timings.attack / max(1, len(made_now)),
    )
