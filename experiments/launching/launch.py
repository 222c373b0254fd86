"""What launches share: how bad input ends them, their flags, and a run begun from these."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import app, flags

from experiments.data import dataset
from experiments.protection import runs
from experiments.protection.runs import Run
from experiments.reporting import results
from ports import zoo
from tipim_jax.errors import UserError

DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Identity folder, person/photo, or one packed by TFDS."
)
PROTOCOL = flags.DEFINE_string("protocol", None, "Manifest of the photos below it.")
NUM_PROBES = flags.DEFINE_integer(
    "num_probes", 100, "Evenly spaced ones; a row's @N overrules it.", lower_bound=1
)
MODELS = flags.DEFINE_list("models", None, "Recognisers that judge; all that are here by default.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Faces attacked at once.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of all randomness.", lower_bound=0)
WORKDIR = flags.DEFINE_string("workdir", None, "Where results go; results/NAME by default.")
CACHE = flags.DEFINE_string("cache", "results/cache", "Where aligned faces are kept.")
QUICK = flags.DEFINE_bool("quick", False, "The smallest honest run, on the demo photos.")


def folder(name: str, config: Mapping[str, Any]) -> Path:
    """The working directory of a launch, with its frozen config; raises as `results.prepare` does."""
    return results.prepare(WORKDIR.value or f"results/{name}", config)


def protocol() -> dataset.Protocol:
    """The photos that the flags ask for; a `UserError` if they do not fit."""
    if QUICK.value:
        return dataset.built_in_protocol()
    if not (DATA_DIR.value and PROTOCOL.value):
        raise UserError("give --data_dir and --protocol, or --quick")
    folder = dataset.photo_folder(Path(DATA_DIR.value), Path(CACHE.value))
    return dataset.read_protocol(Path(PROTOCOL.value), folder)


def begin(name: str, photos: dataset.Protocol | None = None, /, **config: Any) -> Run:
    """Reads the common flags, makes the folder, prints and keeps the frozen config.

    The rows that a run measures are no part of it: more may be added to the same folder.

    Raises:
      UserError: the flags do not say which photos, a model is unknown, or the folder holds another run.
    """
    quick, photos = QUICK.value, photos or protocol()
    if quick:  # more is compiled than computed
        jax.config.update("jax_disable_most_optimizations", True)
    models = list(zoo.SURROGATES) if quick else MODELS.value
    batch_size = 2 if quick else BATCH_SIZE.value
    judges = models or [card.name for card in zoo.available() if not card.missing]
    for model in judges:
        zoo.find(model)
    frozen = {
        "protocol": photos.name,
        "photos": photos.digest,
        "models": models,
        "batch_size": batch_size,
        "seed": SEED.value,
        "quick": quick,
        **config,
    }
    workdir = folder(name, frozen)
    runs.note_weights(workdir, judges)
    cache, probes, seed = Path(CACHE.value), NUM_PROBES.value, SEED.value
    return Run(photos, workdir, cache, models, probes, batch_size, seed, quick)


def places() -> tuple[list[Path], list[Path]]:
    """The folders and manifests of --data_dir and --protocol, several of each with commas between."""
    given = ((flag.value or "").split(",") for flag in (DATA_DIR, PROTOCOL))
    folders, manifests = ([Path(path) for path in paths if path] for paths in given)
    return folders, manifests


def run(main: Callable[[list[str]], None], arguments: bool = False) -> None:
    """`app.run` that tells a `UserError` in one sentence on stderr: exit code 2, no traceback.

    Every other exception is a fault of the program and keeps its traceback. `arguments`: whether anything but
    flags is allowed.
    """

    def told(argv: list[str]) -> int | None:
        try:
            if len(argv) > 1 and not arguments:
                raise UserError(f"unexpected argument {argv[1]!r}; flags begin with --")
            main(argv)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        return None

    app.run(told)


def numbers(flag: str, texts: Sequence[str]) -> list[int]:
    """The numbers of a flag that lists some; a `UserError` if one is none, or less than 1."""
    for text in texts:
        if not text.isdecimal() or int(text) < 1:
            raise UserError(f"--{flag}: {text!r} is no number of 1 or more")
    return [int(text) for text in texts]
