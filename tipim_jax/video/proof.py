"""What recognisers say of the faces of a clip, in frames of the file that was written."""

from collections.abc import Sequence

import numpy as np

from tipim_jax.photos.faces import SMALLEST, Face, Find
from tipim_jax.photos.finish import compare
from tipim_jax.photos.results import FaceResult, OverTime
from tipim_jax.photos.verify import Verifier, closeness
from tipim_jax.video.clip import Clip, Told, shown
from tipim_jax.video.tracks import Track

SAMPLES = 12  # frames of a track that are looked at,
PER_SAMPLE = 60  # or one in so many if that gives more


def prove(
    find: Find,
    judges: Sequence[Verifier],
    original: Clip,
    saved: Clip,
    tracks: Sequence[Track],
    chosen: int,
    *,
    pictures: bool = False,
    told: Told,
) -> tuple[tuple[FaceResult, ...], int]:
    """Judges tracks in frames spread evenly over each, the first and the last among them.

    Every sample is compared with the face in the same frame of the original. The figure "before" is what
    recognisers say of that and the sample before it, neither of them protected.

    Args:
      find: finds the faces of what was saved.
      judges: recognisers.
      original, saved: the clip and what was written; both are read once.
      tracks: of the original.
      chosen: so many of them, the first ones, got masks unless they are small.
      pictures: put pictures of the faces in the results.
      told: called with how far this is.

    Returns:
      The results in the order of the tracks, and the largest change of a pixel in the frames looked at.
    """
    wanted = [_Samples(track) for track in tracks[:chosen] if not track.small]
    at, change = shown(saved.frames()), 0
    last = max((max(one.numbers) for one in wanted), default=-1)
    for number, frame in enumerate(original.frames()):
        told("judging", number + 1, original.length)
        here = [one for one in wanted if number in one.numbers]
        if here:
            there = at(frame.seconds)
            faces = [one.track.face(number, frame.pixels) for one in here]
            before = [one.before or face for one, face in zip(here, faces, strict=True)]
            found = find(there)
            results = compare(frame.pixels, there, faces, before, found, judges, pictures=pictures)
            for one, face, result in zip(here, faces, results, strict=True):
                one.add(frame.seconds, face, result)
            change = max(change, int(np.abs(there.astype(np.int16) - frame.pixels).max()))
        if number >= last:
            break
    judged = {id(one.track): one.result() for one in wanted}
    return tuple(
        judged[id(track)] if id(track) in judged else _left_alone(track, chosen=i < chosen)
        for i, track in enumerate(tracks)
    ), change


class _Samples:
    """The samples of a track."""

    def __init__(self, track: Track) -> None:
        count = min(len(track.frames), max(SAMPLES, len(track.frames) // PER_SAMPLE))
        self.track = track
        self.numbers = set(np.linspace(track.first, track.frames[-1], count).round().astype(int))
        self.before: Face | None = None
        self._samples: list[tuple[float, FaceResult]] = []

    def add(self, seconds: float, face: Face, result: FaceResult) -> None:
        self.before = face
        self._samples.append((seconds, result))

    def result(self) -> FaceResult:
        """All samples as one: the proof of the track."""
        results = [result for _, result in self._samples]
        names = list(results[0].matches)
        worst = max(results, key=_recognised)
        return worst._replace(
            matches={
                name: max((r.matches[name] for r in results), key=lambda match: match.after)
                for name in names
            },
            psnr=float(np.mean([r.psnr for r in results])),
            ssim=float(np.mean([r.ssim for r in results])),
            change=max(r.change for r in results),
            over_time=OverTime(
                first=round(self._samples[0][0], 3),
                last=round(self._samples[-1][0], 3),
                judged=len(results),
                hidden=sum(r.protected for r in results),
                recognisers={
                    name: sum(r.matches[name].protected for r in results) for name in names
                },
            ),
        )


def _recognised(result: FaceResult) -> tuple[int, float]:
    """What frames are ordered by: how many recognisers know the face, and how well."""
    matches = result.matches.values()
    return (
        sum(not match.protected for match in matches),
        sum(closeness(match.after, match.threshold) for match in matches),
    )


def _left_alone(track: Track, *, chosen: bool) -> FaceResult:
    left, top, width, height = map(float, track.boxes[len(track.boxes) // 2])
    why = f"smaller than {SMALLEST} pixels" if chosen else "not chosen"
    return FaceResult((left, top, width, height), {}, skipped=why)
