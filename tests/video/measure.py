"""What a clip costs, how its masks flicker and how many frames are hidden: `python -m tests.video.measure DIR`.

The clip is three seconds of a portrait of the demo under a camera that pans, zooms and turns; where the face is
in each frame is therefore known exactly. Seconds are those of the processor, all threads together.
"""

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ports.networks import yunet
from tests.video import clips
from tipim_jax.core.geometry import CANVAS_LANDMARKS, CANVAS_SIZE
from tipim_jax.photos import presets, programs, targets
from tipim_jax.photos.crops import crop
from tipim_jax.photos.faces import canvas_to_photo
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.folders import Job
from tipim_jax.photos.photo import Photo
from tipim_jax.photos.protect import load_models, protect_stream
from tipim_jax.photos.region import face_region
from tipim_jax.video import films, proof, protect

SURROGATES = ("sface", "dlib")
FRAMES, SIZE, ALONE = 90, (640, 360), 4
LANDMARKS = np.array([[212, 248], [303, 244], [259, 301], [221, 349], [297, 346.0]])


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    programs.keep_in_cache()
    detector = yunet.load()
    settings = presets.choose("medium")
    models = load_models(
        SURROGATES,
        targets.choose(None, detector, SURROGATES),
        settings,
        detector=detector,
        photos=1,
    )
    frames = list(clips.moving(FRAMES, SIZE, clips.SUNAK, cycle=180))
    path = folder / "clip.mp4"
    clips.film(path, frames, [round(1000 * i / 30) for i in range(FRAMES)], options={"crf": "14"})
    plain = folder / "plain.mp4"
    films.read(path, ".mp4").write(plain, lambda _, pixels: pixels, Encoding())
    # what is loaded or compiled on first use does not count
    one = [(0, lambda: Photo.of_samples(frames[0], "RGB", "PNG"))]
    list(protect_stream(models, one, asked=1))

    started = time.process_time()
    photos = [(i, partial(Photo.of_samples, frames[i], "RGB", "PNG")) for i in range(ALONE)]
    alone = [o.finished for o in protect_stream(models, photos, asked=ALONE)]
    each = (time.process_time() - started) / ALONE

    stages: dict[str, float] = {}
    last = [time.process_time()]

    def told(progress):
        now = time.process_time()
        name = progress.doing.split(" (")[0]
        stages[name] = stages.get(name, 0) + now - last[0]
        last[0] = now

    started = last[0] = time.process_time()
    (done,) = protect.protect_clips(
        models, [Job(path, Path("saved.mp4"), moves=True)], folder, overwrite=True, told=told
    )
    taken = time.process_time() - started
    if done.error:
        sys.exit(done.error + done.fault)
    print(f"\na frame as a photo {each:.2f} s, of the clip {taken / FRAMES:.2f} s", stages)

    original = [f.pixels for f in films.read(path, ".mp4").frames()]
    saved = [f.pixels for f in films.read(folder / "saved.mp4", ".mp4").frames()]
    bare = [f.pixels for f in films.read(plain, ".mp4").frames()]
    print("mask, change from frame to frame: levels")
    print("  saved clip            {:.2f} {:.2f}".format(*flicker(original, saved)))
    print("  codec alone           {:.2f} {:.2f}".format(*flicker(original, bare)))
    print("  saved against codec   {:.2f} {:.2f}".format(*flicker(bare, saved)))
    print(
        "  frames as photos, PNG {:.2f} {:.2f}".format(*flicker(frames, [a.pixels for a in alone]))
    )
    for i in (0, 30, 60, 89):
        both = np.concatenate([original[i], saved[i]])
        Image.fromarray(both).save(folder / f"frame{i}.png")

    proof.SAMPLES = 30
    clip = films.read(path, ".mp4")
    tracks = protect._tracks(clip, models.find, models.judges, SURROGATES, lambda *_: None)
    results, change = proof.prove(
        models.find,
        models.judges,
        clip,
        films.read(folder / "saved.mp4", ".mp4"),
        tracks,
        1,
        told=lambda *_: None,
    )
    print(f"{len(tracks)} tracks; largest change {change}")
    for result in results[:1]:
        print(f"PSNR {result.psnr:.1f} SSIM {result.ssim:.3f}", result.over_time)
        for name, match in result.matches.items():
            photo = [a.faces[0].matches[name] for a in alone]
            print(
                f"  {name} before {match.before:.3f} after, worst {match.after:.3f} threshold "
                f"{match.threshold:.3f}; as photos {max(m.after for m in photo):.3f}"
            )


def flicker(before, after):
    """Mean size of the change on the face, and of its difference between neighbouring frames."""
    region = face_region(CANVAS_LANDMARKS)
    changes = []
    for i, (a, b) in enumerate(zip(before, after, strict=False)):
        landmarks = clips.placed(LANDMARKS, i, SIZE, clips.SUNAK, cycle=180)
        change = b.astype(np.float32) - a
        changes.append(crop(change, canvas_to_photo(landmarks), (CANVAS_SIZE, CANVAS_SIZE)))
    total = 3 * region.sum()
    size = np.mean([np.abs(region * c).sum() / total for c in changes])
    step = np.mean([np.abs(region * d).sum() / total for d in np.diff(changes, axis=0)])
    return size, step


if __name__ == "__main__":
    main(Path(sys.argv[1]))
