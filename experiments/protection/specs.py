"""A protection by its name: what a row of a table is made with, part by part.

    NAME      = CONTROL | [SOURCE/]PRESET | SOURCE/METHOD, then settings, then @PROBES
    CONTROL   = unprotected, noise, blur, pixelate (`methods.CONTROLS`)
    PRESET    = low, medium, high: the way of `tipim protect`, pasted into the photo and cropped anew
    SOURCE    = a model, several joined by +, or `ensemble`
    METHOD    = a name of `methods.METHODS`; `_untargeted` after it for dodging; a single-target method
                goes for the target nearest to the clean photo, with `_best` after it for each in turn
    settings  = :FIELD=VALUE of `methods.Setting`, of a preset those of `presets.Settings`; :targets=N (the
                first N), :batch=N (of the batch MMD), :virtual=1 (the virtual identities that come with the
                library, for sface and dlib)

for example `mobilefacenet_casia/tip_im:gamma=2:batch=50@100`, the first @PROBES evenly spaced ones, or
`sface/medium:level=8`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.data import dataset
from experiments.protection import methods
from experiments.protection.methods import CONTROLS, Setting
from ports import zoo
from tipim_jax.core import batching, ensemble
from tipim_jax.core.types import Recogniser
from tipim_jax.errors import UserError
from tipim_jax.photos import engine
from tipim_jax.photos.faces import align
from tipim_jax.photos.files import read_photo
from tipim_jax.photos.paste import FaceMask, paste
from tipim_jax.photos.portrait import main_face
from tipim_jax.photos.presets import PRESETS, Settings, check
from tipim_jax.photos.targets import Targets

SOURCES = {"ensemble": ("mobilefacenet_casia", "sface", "dlib")}
BEST = "_best"
_RUN = ("seed", "batch_size", "precision")  # settings that are the run's


class Name(NamedTuple):
    """A protection's name, read."""

    text: str  # the name without the number of probes
    surrogates: tuple[str, ...]  # the source's models; () for a control
    method: str  # control, preset or method
    setting: Setting  # of a method
    changes: Mapping[str, Any]  # what differs from a preset's settings
    targets: int | None  # how many of the targets; None for all
    batch: int | None  # images of a batch; None for the run's
    virtual: bool  # whether the targets are the built-in virtual identities
    best: bool  # whether a single-target method is run on every target
    probes: int | None  # how many; None for the run's

    @property
    def folder(self) -> str:
        """Where its cells are kept."""
        return self.text.replace(":", ",")

    def settings(self, presets: Mapping[str, Settings]) -> Settings:
        """Those of a preset, as the name changes them."""
        return presets[self.method]._replace(**self.changes)


def named(text: str, setting: Setting = Setting()) -> Name:
    """Reads a name, or says where it does not follow the grammar; `setting` has what it does not say."""
    body, _, probes = text.partition("@")
    head, *options = body.split(":")
    source, _, method = head.rpartition("/")
    preset = PRESETS.get(method)
    known: Any = preset or setting
    fields = [field for field in known._fields if not (preset and field in _RUN)]
    own: dict[str, Any] = {"targets": None, "batch": None, "virtual": False}
    changes: dict[str, Any] = {}
    for option in options:
        field, _, value = option.partition("=")
        if field in own:
            own[field] = _number(text, value, bool) if field == "virtual" else _count(text, value)
        elif field in fields:
            changes[field] = _number(text, value, type(getattr(known, field)))
        else:
            raise UserError(f"{text}: {field!r} is no setting; use {', '.join([*own, *fields])}")
    if not preset:
        setting, changes = setting._replace(**changes), {}
    best = method.endswith(BEST)
    method = method.removesuffix(BEST)
    if method in CONTROLS:
        surrogates: tuple[str, ...] = ()
    elif not source and method not in PRESETS:
        raise UserError(
            f"{text!r} is no protection; use {', '.join([*CONTROLS, *PRESETS])}, or SOURCE/METHOD with a "
            f"method out of {', '.join(methods.METHODS)}"
        )
    else:
        surrogates = SOURCES.get(source, tuple(source.split("+")) if source else zoo.SURROGATES)
    if method in CONTROLS or preset:
        taken = ("virtual", *changes) if preset else ("epsilon",)
        useless = [option for option in options if option.partition("=")[0] not in taken]
        if useless or best:
            only = "virtual and settings" if preset else "epsilon"
            refused = useless[0] if useless else BEST
            raise UserError(f"{text}: {method} takes no {refused}, only {only}")
        if preset:
            check(preset._replace(**changes))
    elif best and methods.settled(method, setting).search != "fixed":
        raise UserError(f"{text}: {method} chooses among the targets itself; leave out {BEST}")
    elif best and method.endswith(methods.UNTARGETED):
        raise UserError(f"{text}: {method} has no target; leave out {BEST}")
    else:
        methods.settled(method, setting)  # raises what is wrong with it
    count = _count(text, probes) if probes else None
    return Name(body, surrogates, method, setting, changes, **own, best=best, probes=count)


def _count(text: str, value: str) -> int:
    if (count := int(_number(text, value, int))) < 1:
        raise UserError(f"{text}: {value} is too few; give 1 or more")
    return count


def _number(text: str, value: str, kind: type) -> Any:
    if kind is bool:
        if value not in ("0", "1"):
            raise UserError(f"{text}: {value!r} is neither 0 nor 1")
        return value == "1"
    try:
        return kind(value)
    except ValueError:
        number = "whole number" if kind is int else "number"
        raise UserError(f"{text}: {value!r} is not a {number}") from None


# A recogniser -> the same with another framing of the canvas.
Frame = Callable[[Recogniser], Recogniser]


def as_it_is(recogniser: Recogniser) -> Recogniser:
    """The framing for aligned canvases."""
    return recogniser


class Subjects(NamedTuple):
    """Who is protected."""

    faces: dataset.Faces  # the aligned photos
    target_names: tuple[str, ...]  # [T]
    targets: Mapping[str, np.ndarray]  # recogniser -> [T,D] their embeddings
    frame: Frame = as_it_is  # how recognisers see the canvases

    def first(self, count: int | None) -> "Subjects":
        """The same with the first `count` targets alone; all for None."""
        targets = {name: embedded[:count] for name, embedded in self.targets.items()}
        return self._replace(target_names=self.target_names[:count], targets=targets)

    def joined(self, surrogates: Sequence[str]) -> np.ndarray:
        """[T,D] targets as the ensemble of these surrogates joins them."""
        return Targets(self.target_names, self.targets).joined(surrogates, _weights(surrogates))


def _weights(surrogates: Sequence[str]) -> list[float]:
    return [engine.WEIGHTS.get(name, 1.0) for name in surrogates]


@cache
def combined(surrogates: tuple[str, ...], frame: Frame = as_it_is) -> ensemble.Ensemble:
    """These models as one embedding of the canvas, always the same object."""
    return ensemble.combine([frame(zoo.load(name)) for name in surrogates], _weights(surrogates))


@cache
def _composed(
    method: str, surrogates: tuple[str, ...], frame: Frame, setting: Setting
) -> tuple[methods.Method, ensemble.Ensemble]:
    # Cached, since what is compiled belongs to the object.
    joined = combined(surrogates, frame)
    return methods.compose(method, joined.embed, setting), joined


# Indices [n] of the faces -> canvases [n,V,160,160,3] uint8.
Make = Callable[[np.ndarray], np.ndarray]


def maker(
    name: Name,
    subjects: Subjects,
    batch_size: int,
    seed: int,
    presets: Mapping[str, Settings] = PRESETS,
) -> Make:
    """What makes the parts of a protection, up to `batch_size` faces each; models are loaded and compiled
    when the first is asked for. Of a single-target method run on all targets V is T, otherwise 1."""
    if name.method in presets:
        settings = name.settings(presets)._replace(batch_size=batch_size, seed=seed)
        return _as_protect_does(name, subjects, settings)
    if name.method not in CONTROLS:
        return _attacked(name, subjects.first(name.targets), name.batch or batch_size, seed)

    def control(indices: np.ndarray) -> np.ndarray:
        canvases = subjects.faces.canvases[indices]
        keys = methods.keys(canvases, seed)
        done = methods.control(name.method, canvases, keys, name.setting.epsilon)
        return np.asarray(done)[:, None]

    return control


def _attacked(name: Name, subjects: Subjects, batch_size: int, seed: int) -> Make:
    def make(indices: np.ndarray) -> np.ndarray:
        method, joined = _composed(name.method, name.surrogates, subjects.frame, name.setting)
        targets = subjects.joined(name.surrogates)
        canvases = subjects.faces.canvases[indices]

        def protected(targets: np.ndarray, index: int = 0) -> np.ndarray:
            keys = methods.keys(canvases, seed, index)
            return methods.protect(method, joined, canvases, targets, keys, batch_size)

        if not method.single:
            return protected(targets)[:, None]
        if name.best:
            variants = [protected(targets[i : i + 1], i) for i in range(len(targets))]
            return np.stack(variants, axis=1)
        images = jax.numpy.asarray(batching.pad(canvases, batch_size)[0], jax.numpy.float32)
        clean = np.asarray(_embed_all(*joined, images))[: len(canvases)]
        nearest = np.argmax(clean @ targets.T, axis=1)  # all have unit norm
        return protected(targets[nearest][:, None])[:, None]

    return make


_embed_all = jax.jit(
    lambda embed, params, images: jax.vmap(embed, (None, 0))(params, images), static_argnums=0
)


def _as_protect_does(name: Name, subjects: Subjects, settings: Settings) -> Make:
    """Mask on the aligned face, pasted into the photo, and the photo cropped anew."""

    @cache
    def prepared() -> tuple[engine.Engine, Any]:
        targets = Targets(subjects.target_names, subjects.targets)
        return engine.build(name.surrogates, targets, settings), dataset.detector()

    def make(indices: np.ndarray) -> np.ndarray:
        made, detector = prepared()
        photos = [read_photo(subjects.faces.paths[i]) for i in indices]
        found = [main_face(detector, photo.pixels) for photo in photos]
        masks = engine.attack_faces(
            made,
            made.full(),
            found,
            [photo.colours for photo in photos],
            [batching.content_key(settings.seed, photo.pixels.tobytes()) for photo in photos],
        )
        protected = []
        for photo, face, mask in zip(photos, found, masks.masks, strict=True):
            pasted = paste(photo.pixels, [FaceMask(mask, face.matrix)], settings.epsilon)
            again = align(pasted, face.landmarks, face.box).canvas
            protected.append(np.rint(again).astype(np.uint8))
        return np.stack(protected)[:, None]

    return make
