"""What launches share: their flags, and a run begun from them."""

from pathlib import Path
from typing import Any

from absl import flags

from experiments.data import dataset
from experiments.protection import runs
from experiments.protection.runs import Run
from experiments.reporting import results
from ports import zoo

_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Identity folder, person/photo, or one packed by TFDS."
)
_PROTOCOL = flags.DEFINE_string("protocol", None, "Manifest of the photos below it.")
_NUM_PROBES = flags.DEFINE_integer(
    "num_probes", 100, "Evenly spaced ones; a row's @N overrules it.", lower_bound=1
)
_MODELS = flags.DEFINE_list("models", None, "Recognisers that judge; all that are here by default.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Faces attacked at once.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of all randomness.", lower_bound=0)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where results go; results/NAME by default.")
_CACHE = flags.DEFINE_string("cache", "results/cache", "Where aligned faces are kept.")
_QUICK = flags.DEFINE_bool("quick", False, "The smallest honest run, on the demo photos.")


def begin(name: str, protocol: dataset.Protocol | None = None, **config: Any) -> Run:
    """Reads the common flags, makes the folder, prints and keeps the frozen config.

    The rows that a run measures are not part of it: more may be added to the same folder.

    Raises:
      UserError: the flags do not say which photos, a model is unknown, or the folder holds another run.
    """
    quick = _QUICK.value
    if protocol is None:
        protocol = dataset.chosen_protocol(quick, _DATA_DIR.value, _PROTOCOL.value, _CACHE.value)
    models = list(zoo.SURROGATES) if quick else _MODELS.value
    batch_size = 2 if quick else _BATCH_SIZE.value
    judges = models or [card.name for card in zoo.available() if not card.missing]
    for model in judges:
        zoo.find(model)
    frozen = {
        "protocol": protocol.name,
        "photos": protocol.digest,
        "models": models,
        "batch_size": batch_size,
        "seed": _SEED.value,
        "quick": quick,
        **config,
    }
    workdir = results.prepare(_WORKDIR.value or f"results/{name}", frozen)
    runs.note_weights(workdir, judges)
    return Run(
        protocol,
        workdir,
        Path(_CACHE.value),
        models,
        _NUM_PROBES.value,
        batch_size,
        _SEED.value,
        quick,
    )


def num_probes() -> int:
    """What --num_probes says, for a launch whose results depend on it as a whole."""
    return _NUM_PROBES.value


def places() -> tuple[list[Path], list[Path]]:
    """The folders and manifests of --data_dir and --protocol, several of each with commas between."""
    given = ((flag.value or "").split(",") for flag in (_DATA_DIR, _PROTOCOL))
    folders, manifests = ([Path(path) for path in paths if path] for paths in given)
    return folders, manifests
