"""How masks last on people who talk and turn: `python -m tests.video.measure_people CLIP… --out DIR`.

Every clip is protected at `medium`, with masks made on sface and dlib. In each fourth frame of what was written
the face is compared with that of the original, by the recognisers that are here and by `--judges` (folders as
`experiments.judging.networks` wants them, with a cosine each in `--thresholds`), and so is what the codec alone
makes of it, and, in a few frames, what comes of the frame as a photo. Flicker is the change on the face from
frame to frame, the face laid over itself, in levels of 255. Seconds are of the processor, all threads together.
"""

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.judging import judges as judging
from ports.networks import yunet
from tipim_jax.core.geometry import CANVAS_SIZE
from tipim_jax.photos import presets, programs, targets
from tipim_jax.photos.crops import crop
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.folders import Job
from tipim_jax.photos.photo import Photo
from tipim_jax.photos.protect import load_models, protect_stream
from tipim_jax.video import films, protect
from tipim_jax.video.register import register, template

SURROGATES = ("sface", "dlib")
EACH = 4  # frames from one that is judged to the next


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--judges", type=Path, nargs="*", default=[])
    parser.add_argument("--thresholds", type=Path, help="JSON, the cosine of each of --judges")
    parser.add_argument("--photos", type=int, default=0, help="frames that are done as photos")
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    programs.keep_in_cache()
    detector = yunet.load()
    models = load_models(
        SURROGATES,
        targets.choose(None, detector, SURROGATES),
        presets.choose("medium"),
        detector=detector,
        photos=1,
    )
    limits = json.loads(flags.thresholds.read_text()) if flags.thresholds else {}
    limits |= {judge.name: judge.threshold for judge in models.judges}
    asked = judging.load(flags.judges, None)
    # what is loaded or compiled on first use does not count
    pixels = next(films.read(flags.clips[0], ".mp4").frames()).pixels
    list(protect_stream(models, [(0, lambda: Photo.of_samples(pixels, "RGB", "PNG"))], asked=1))
    for path in flags.clips:
        measure(path, flags.out, models, asked, limits, flags.photos)


def measure(path, out, models, asked, limits, photos):
    clip, stages, last = films.read(path, path.suffix), {}, [time.process_time()]

    def told(progress):
        now = time.process_time()
        name = progress.doing.split(" (")[0]
        stages[name] = stages.get(name, 0) + now - last[0]
        stages["made"] = progress.doing if name == "masks" else stages.get("made")
        last[0] = now

    (done,) = protect.protect_clips(
        models, [Job(path, Path(path.name), moves=True)], out, overwrite=True, told=told
    )
    made = stages.pop("made")
    frames = [frame.pixels for frame in clip.frames()]
    saved = [frame.pixels for frame in films.read(out / path.name, path.suffix).frames()]
    plain = out / f"plain-{path.name}"
    clip.write(plain, lambda _, pixels: pixels, Encoding())
    bare = [frame.pixels for frame in films.read(plain, path.suffix).frames()]
    tracks = protect._tracks(clip, models.find, models.judges, SURROGATES, lambda *_: None)
    track = tracks[0]
    each = {name: round(seconds / len(frames), 2) for name, seconds in stages.items()}
    print(f"\n{path.name}: {len(frames)} frames, tracks", [str(one.frames) for one in tracks])
    print(f"seconds a frame {sum(stages.values()) / len(frames):.2f}, of it {each}; {made}")
    print("face", np.median(track.boxes[:, 2:], 0).round(), done.faces[0].over_time, flush=True)

    def seen(pixels, number):
        """The landmarks of the face, where it is found."""
        known = track.landmarks[number - track.first]
        found = sorted(models.find(pixels), key=lambda face: np.abs(face.landmarks - known).sum())
        near = found and np.abs(found[0].landmarks - known).max() < 0.3 * np.ptp(known)
        return found[0].landmarks if near else known

    numbers = list(track.frames)[::EACH]
    some = numbers[:: max(1, len(numbers) // max(photos, 1))][:photos]
    alone = {
        outcome.key: outcome.finished.pixels
        for number in some
        for outcome in protect_stream(models, [(number, _photo(frames[number]))], asked=1)
    }
    ways = {"original": frames, "codec": bare, "saved": saved, "photo": alone}
    marks = {
        way: {i: seen(pixels[i], i) for i in (alone if way == "photo" else numbers)}
        for way, pixels in ways.items()
    }
    for judge in asked:
        vectors = {
            way: {i: judge.embed(judge.crop(ways[way][i], at)[None])[0] for i, at in found.items()}
            for way, found in marks.items()
        }
        cosines = {
            way: np.array([vector @ vectors["original"][i] for i, vector in found.items()])
            for way, found in vectors.items()
        }
        line = f"{judge.name:13} {limits[judge.name]:.3f}"
        for way in ("codec", "saved", "photo"):
            if (there := cosines[way]).size:
                hidden, median = np.mean(there <= limits[judge.name]), np.median(there)
                line += (
                    f" | {way} hidden {hidden:.2f}, median {median:.2f}, worst {there.max():.2f}"
                )
        print(line, flush=True)
        print(
            "   ", " ".join(f"{i}:{c:.2f}" for i, c in zip(numbers, cosines["saved"], strict=True))
        )
    print("flicker, size and change: saved {:.2f} {:.2f}".format(*flicker(frames, saved, track)))
    print("  codec alone {:.2f} {:.2f}".format(*flicker(frames, bare, track)))
    print("  saved against codec {:.2f} {:.2f}".format(*flicker(bare, saved, track)))
    if photos:
        middle = track.frames[len(track.frames) // 2]
        row = range(middle, middle + photos)
        every = list(frames)
        for i in row:
            for outcome in protect_stream(models, [(i, _photo(frames[i]))], asked=1):
                every[i] = outcome.finished.pixels
        line = "  {} frames as photos, PNG {:.2f} {:.2f}"
        print(line.format(photos, *flicker(frames, every, track, row)))
    for i in range(0, len(frames), max(1, len(frames) // 8)):
        both = np.concatenate([frames[i], saved[i]], axis=1)
        Image.fromarray(both).save(out / f"{path.stem}-{i}.png")


def _photo(pixels):
    return lambda: Photo.of_samples(pixels, "RGB", "PNG")


def flicker(before, after, track, numbers=None):
    """Mean size of the change on the face, and of its difference between neighbouring frames."""
    sizes, steps = [], []
    for i, j in pairwise(track.frames if numbers is None else numbers):
        face = track.face(i, before[i])
        there = register(before[j], track.matrix(j), template(face))
        a, b = (
            crop(after[k].astype(np.float32) - before[k], matrix, (CANVAS_SIZE, CANVAS_SIZE))
            for k, matrix in ((i, face.matrix), (j, there.matrix))
        )
        total = 3 * face.region.sum()
        sizes.append(np.abs(face.region * a).sum() / total)
        steps.append(np.abs(face.region * (b - a)).sum() / total)
    return np.mean(sizes), np.mean(steps)


if __name__ == "__main__":
    main()
