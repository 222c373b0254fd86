"""A user's checkpoint becomes a registered model: read, recognise, convert, record, store."""

from pathlib import Path
from typing import NamedTuple

from ports import architectures, published, readers, store, zoo
from ports.card import ModelCard, OwnFile
from ports.convert import convert
from ports.packages import sha256
from tipim_jax.errors import UserError


class Registered(NamedTuple):
    """folder: where the model is; card: its record; reason: how its network was recognised."""

    folder: Path
    card: ModelCard
    reason: str


def register(
    checkpoint: Path,
    name: str,
    *,
    arch: str = "auto",
    licence: str | None = None,
    root: Path | None = None,
) -> Registered:
    """Converts a checkpoint and stores it with its record; complete or not at all.

    Args:
      checkpoint: a file that `ports.readers.read` knows.
      name: what the model is called from now on.
      arch: a network of `architectures.ARCHITECTURES`, or "auto" to recognise it.
      licence: of the weights, in the user's words; by default what `published` knows of the file.
      root: folder of models, `store.directory()` by default.

    Raises:
      UserError: the file cannot be read, is of no known network, does not fit `arch` (every mismatch is
        listed), or the name is taken.
    """
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: there is no such weight file")
    if name in zoo.CARDS or not name.isidentifier():
        raise UserError(
            f"a model cannot be called {name!r}: use letters, digits and underscores, and none of "
            f"{', '.join(zoo.CARDS)}"
        )
    tensors = readers.read(checkpoint)
    if arch == "auto":
        arch, reason = architectures.recognise(tensors)
    else:
        reason = f"{arch} was asked for"
    model = architectures.abstract(arch)
    known = architectures.ARCHITECTURES[arch]
    model = convert(tensors, known.table, model, ignore=known.ignored)
    origin = OwnFile(str(checkpoint.resolve()), sha256(checkpoint))
    listed = published.known(origin.sha256)
    if listed is not None:
        reason += f"; this is {listed.file} of {listed.project}"
    if licence is None:
        licence = listed.licence if listed is not None else "not stated"
    card = zoo.card(name, arch, origin, licence)
    return Registered(store.save(root or store.directory(), card, model), card, reason)


def described(registered: Registered) -> str:
    """A registered model in a few lines."""
    card = registered.card
    height, width = card.size
    return (
        f"{card.name}: {card.architecture} ({registered.reason})\n"
        f"input {height}×{width} {card.channels}, (x − {card.mean}) × {card.scale:g}, ArcFace "
        f"template; {card.features}-d; licence: {card.licence}\n"
        f"from {zoo.origin(card)}\nwritten to {registered.folder}"
    )
