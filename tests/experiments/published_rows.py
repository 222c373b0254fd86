"""Runs the flags of the ten published rows on demo photos, with small networks under the published names.

python -m tests.experiments.published_rows FOLDER
"""

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
from absl import flags

from experiments import data, identification, protocols, runs, verification
from ports import zoo
from ports.zoo import arcface_template
from tipim_jax.types import Recogniser, l2_normalise

CONFIGS = Path(identification.__file__).parent / "configs"


def network(name: str) -> Recogniser:
    """Random projections of the blocks of a crop."""
    size = (160, 160) if name == "facenet" else (112, 112)
    weights = np.random.default_rng(len(name)).normal(size=(6, 8 * 8 * 3)).astype(np.float32)

    def embed(params, crop):
        blocks = crop.reshape(8, size[0] // 8, 8, size[1] // 8, 3).mean((1, 3)) / 128 - 1
        return l2_normalise(params @ blocks.reshape(-1))

    return Recogniser(name, embed, weights, size, np.array(arcface_template(size)))


def main(folder: Path) -> None:
    jax.config.update("jax_disable_most_optimizations", True)
    networks = {name: network(name) for name in ("irse50", "ir152", "facenet", "mobileface")}
    zoo.load = lambda name, *dtype: networks[name]
    zoo.find = lambda name: SimpleNamespace(features=6)
    zoo.thresholds = lambda name: {"far_1e-3": 0.5}
    runs.Setting = partial(runs.Setting, steps=2)
    root = data.demo_people(folder / "photos")
    people = protocols.people_of(root)
    protocols.write(protocols.verification(people, 2, 1, [], 0), root, folder / "pairs.json")
    split = protocols.identification(people, 1, 1, 3, 0)
    protocols.write(split, root, folder / "identities.json")
    for config in sorted(CONFIGS.glob("row*.flags")):
        pairs = "--framing" in config.read_text(encoding="utf-8")
        launch, manifest = (verification, "pairs") if pairs else (identification, "identities")
        for flag in flags.FLAGS:
            flags.FLAGS[flag].unparse()  # back to its default
        flags.FLAGS(
            [
                config.stem,
                f"--flagfile={config}",
                f"--data_dir={root}",
                f"--protocol={folder / manifest}.json",
                f"--workdir={folder / config.stem}",
                f"--cache={folder / 'cache'}",
                "--batch_size=2",
                *(["--method=mim"] if pairs else []),  # compiles in a third of the time
            ]
        )
        launch.main([])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
