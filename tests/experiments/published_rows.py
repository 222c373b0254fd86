"""Runs the flags of the published rows with small networks under the published names.

python -m tests.experiments.published_rows FOLDER [PHOTOS]

All ten rows, obfuscation and aligned faces, on the demo photos; with an identity folder PHOTOS the two that
take most of a manifest, row 6 (two data sets, one with groups) and obfuscation, on photos of it.
"""

import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import identification, verification
from experiments.data import dataset, protocols
from experiments.data.people import people_of
from experiments.protection import runs
from ports import zoo
from ports.zoo import arcface_template
from tipim_jax.core.types import Recogniser, l2_normalise

CONFIGS = Path(identification.__file__).parent / "configs"


class Known(NamedTuple):
    """What is asked of the card of a network."""

    name: str
    features: int = 6


def network(name: str) -> Recogniser:
    """Random projections of the blocks of a crop."""
    size = (160, 160) if name == "facenet" else (112, 112)
    weights = np.random.default_rng(len(name)).normal(size=(6, 8 * 8 * 3)).astype(np.float32)

    def embed(params, crop):
        blocks = crop.reshape(8, size[0] // 8, 8, size[1] // 8, 3).mean((1, 3)) / 128 - 1
        return l2_normalise(params @ blocks.reshape(-1))

    return Recogniser(name, embed, jnp.asarray(weights), size, np.array(arcface_template(size)))


def manifests(folder: Path, photos: Path | None) -> Path:
    """Draws an identification protocol, and those of two data sets; returns the folder of their photos."""
    root = photos or dataset.demo_people(folder / "photos")
    people = people_of(root)
    drawn = protocols.verification(people, *((8, 2) if photos else (2, 1)), [], 0)
    # As for LADN: each photo but the first is for one of the targets.
    names = list(drawn["targets"])
    groups = {name: drawn["photos"][1 + i :: len(names)] for i, name in enumerate(names)}
    for name, manifest in (("celeba_hq", drawn), ("ladn", {**drawn, "groups": groups})):
        (folder / name).mkdir()
        protocols.write(manifest, root, folder / name / "pairs.json")
    split = protocols.identification(people, 1, 1, 3, 0)
    protocols.write(split, root, folder / "identities.json")
    return root


def main(folder: Path, photos: Path | None = None) -> None:
    jax.config.update("jax_disable_most_optimizations", True)
    networks = {name: network(name) for name in ("irse50", "ir152", "facenet", "mobileface")}
    zoo.load = lambda name, *dtype: networks[name]
    zoo.find = Known
    runs.digest = lambda name: name
    zoo.thresholds = lambda name: {"far_1e-3": 0.5}
    runs.Setting = partial(runs.Setting, steps=2)
    root = manifests(folder, photos)
    # Methods that compile in a third of the time.
    aims, dodges = ["--method=mim"], ["--method=mim_untargeted"]
    celeba_hq, ladn = folder / "celeba_hq/pairs.json", folder / "ladn/pairs.json"
    one = [f"--data_dir={root}", f"--protocol={celeba_hq}"]
    two = [f"--data_dir={root},{root}", f"--protocol={celeba_hq},{ladn}"]
    grouped = [f"--data_dir={root}", f"--protocol={ladn}"]
    identified = [f"--data_dir={root}", f"--protocol={folder / 'identities.json'}"]
    rows = {path.stem: path for path in sorted(CONFIGS.glob("*/row*.flags"))}
    chosen: dict[str, tuple[Path, list[str]]] = {
        name: (path, (two if name == "row06_average" else one) + aims)
        if path.parent.name == "verification"
        else (path, identified)
        for name, path in rows.items()
    }
    chosen["obfuscation"] = (CONFIGS / "verification/obfuscation.flags", grouped + dodges)
    aligned = [*one, *aims, "--framing=aligned"]
    chosen["aligned"] = (rows["row04_celeba_hq_irse50"], aligned)
    if photos:
        chosen = {name: chosen[name] for name in ("row06_average", "obfuscation")}
    for name, (config, arguments) in chosen.items():
        for flag in flags.FLAGS:
            flags.FLAGS[flag].unparse()  # back to its default
        flags.FLAGS(
            [
                name,
                f"--flagfile={config}",
                *arguments,
                f"--workdir={folder / name}",
                f"--cache={folder / 'cache'}",
                "--batch_size=2",
            ]
        )
        (identification if arguments is identified else verification).main([])


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
