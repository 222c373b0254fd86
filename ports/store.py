"""Converted models on disk: one folder each, `card.json` and an Orbax checkpoint of the parameters.

The parameters are stored as converted, before BatchNorms are folded, so that they can be exported.
"""

import os
import shutil
import tempfile
from pathlib import Path

import jax
from flax import nnx

from ports import architectures
from ports.card import ModelCard, from_json, to_json
from tipim_jax.errors import UserError

CARD, PARAMS = "card.json", "params"


def cache() -> Path:
    """Where everything lives that is kept between runs: `$TIPIM_CACHE`, or `~/.cache/tipim`."""
    own = os.environ.get("TIPIM_CACHE")
    return Path(own) if own else Path.home() / ".cache" / "tipim"


def directory() -> Path:
    """Where registered models live: `$TIPIM_MODELS`, or the folder `models` of the cache."""
    own = os.environ.get("TIPIM_MODELS")
    return Path(own) if own else cache() / "models"


def save(root: Path, card: ModelCard, model: nnx.Module) -> Path:
    """Writes `model` to `root/card.name`, complete or not at all, and returns that folder.

    Raises:
      UserError: the folder exists already, or the card's origin is a package.
    """
    from orbax.checkpoint import v1 as ocp  # two seconds that only registered models should cost

    target = root / card.name
    if target.exists():
        raise UserError(f"{target} exists already; remove it or choose another name")
    text = to_json(card)
    root.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=root, prefix=f".{card.name}-"))
    try:
        (scratch / CARD).write_text(text, encoding="utf-8")
        ocp.save(scratch.absolute() / PARAMS, nnx.to_pure_dict(nnx.state(model)))
        scratch.rename(target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return target


def load(folder: Path) -> tuple[ModelCard, nnx.Module]:
    """The card and the unfolded network of a folder written by `save`.

    Raises:
      UserError: the record or the checkpoint is damaged, or its network is unknown.
    """
    from orbax.checkpoint import v1 as ocp

    card = read_card(folder)
    model = architectures.abstract(card.architecture)
    graph, state = nnx.split(model)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
        nnx.to_pure_dict(state),
    )
    try:
        params = ocp.load(folder.absolute() / PARAMS, wanted)
    except (ValueError, KeyError, OSError, ocp.errors.InvalidLayoutError) as error:
        raise UserError(
            f"{folder}: the stored parameters are damaged or do not fit {card.architecture}; "
            "remove the folder and convert the checkpoint again"
        ) from error
    nnx.replace_by_pure_dict(state, params)
    return card, nnx.merge(graph, state)


def read_card(folder: Path) -> ModelCard:
    """The record of a stored model, without its parameters.

    Raises:
      UserError: there is none, or it is damaged.
    """
    try:
        return from_json((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: no readable model record ({error})") from error


def folders(root: Path) -> list[Path]:
    """The folders of all stored models under `root`, by name."""
    return sorted(path.parent for path in root.glob(f"*/{CARD}") if path.parent.name[0] != ".")
