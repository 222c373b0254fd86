"""Implementations of TIP-IM on the same images: (a) and (b) in PyTorch, (r), (c) and (d) in JAX.

(a) has the released structure: batch 1, weights that require gradients, T retained backward passes, T
candidate forwards, two warps a view; (b) is the same with frozen weights, batched as well as PyTorch can;
(r) has the structure of (a) in JAX, which computes no gradients of weights unasked (`released.py`); (c) is ours
with the exhaustive search, (d) ours with the default one. All take 50 ℓ∞ steps of α = 1.5 in ε = 12, with
random affine views unless said otherwise.
"""

import hashlib
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.protection import methods
from experiments.speed import cost, machine, released
from ports import architectures, random_weights, zoo
from ports.architectures import ARCHITECTURES
from ports.card import OwnFile
from ports.convert import export
from tipim_jax.core import attack, diversity, ensemble
from tipim_jax.core.geometry import CANVAS_SIZE
from tipim_jax.core.types import Attack, Embed, Recogniser
from tipim_jax.errors import UserError
from tipim_jax.photos.engine import WEIGHTS

SETTING = methods.Setting()
# Architecture of a model that need not be registered here.
NETWORKS = {"mobilefacenet_casia": "mobilefacenet_112x96_128", "irse50": "irse50"}
IMPLEMENTATIONS = {
    "a": "PyTorch, released structure",
    "b": "PyTorch, frozen and batched",
    "r": "JAX, released structure",
    "c": "ours, exhaustive",
    "d": "ours, default",
}
PYTORCH = {"a": "released", "b": "batched"}  # functions of `pytorch.tip_im`, of the extra `parity`
ONE_BY_ONE = "ar"  # take one image at a time


def check_wanted(wanted: str) -> None:
    """Raises a `UserError` unless the implementations can be run here."""
    if unknown := [name for name in wanted or " " if name not in IMPLEMENTATIONS]:
        raise UserError(
            f"--implementations: {unknown[0]!r} is none of {', '.join(IMPLEMENTATIONS)}"
        )
    if set(wanted) & set(PYTORCH) and not machine.pytorch():
        raise UserError(
            'PyTorch is absent; run `pip install -e ".[parity]"`, or give --implementations=rcd'
        )


class Model(NamedTuple):
    """A surrogate or several: for JAX, and per recogniser what its PyTorch twin is filled with."""

    name: str
    combined: ensemble.Ensemble
    weights: list[float]
    parts: list[tuple[Recogniser, str, dict[str, np.ndarray]]]  # architecture, source tensors

    @property
    def digest(self) -> str:
        """Changes with any weight, and with how the networks are joined."""
        content = hashlib.sha256(repr(self.weights).encode())
        for _, architecture, tensors in self.parts:
            content.update(architecture.encode())
            for name, tensor in sorted(tensors.items()):
                content.update(name.encode() + tensor.tobytes())
        return content.hexdigest()[:16]


def model(name: str) -> Model:
    """Loads `a+b`; networks that are not here get random weights."""
    parts = []
    for part in name.split("+"):
        try:
            card, network = zoo.network(part)
        except UserError:
            if part not in NETWORKS:
                raise
            card = zoo.card(part, NETWORKS[part], OwnFile("random weights", ""), "none")
            network = random_weights.network(architectures.abstract(NETWORKS[part]))
        tensors = export(network, ARCHITECTURES[card.architecture].table)
        parts.append((zoo.ready(card, network), card.architecture, tensors))
    weights = [WEIGHTS.get(part, 1.0) for part in name.split("+")]
    return Model(name, ensemble.combine([part[0] for part in parts], weights), weights, parts)


class Inputs(NamedTuple):
    """images: [B,160,160,3]; targets: [T,D] unit norm."""

    images: np.ndarray
    targets: np.ndarray


def inputs(used: Model, count: int, batch: int) -> Inputs:
    """Seeded images, smooth enough to look like photos to a network, and targets of others like them."""
    random = np.random.default_rng(0)
    coarse = random.uniform(0, 255, (batch + count, 20, 20, 3)).astype(np.float32)
    images = np.asarray(
        jax.image.resize(coarse, (len(coarse), CANVAS_SIZE, CANVAS_SIZE, 3), "linear")
    )
    embed = jax.jit(used.combined.embed)
    targets = np.stack([embed(used.combined.params, image) for image in images[batch:]])
    return Inputs(np.rint(images[:batch]), targets)


Attempt = Callable[[int], np.ndarray]  # steps -> protected images [B,160,160,3]


def composed(name: str, embed: Embed, *, views: bool = True) -> Attack:
    """The attack of (c) or (d)."""
    searches = {"c": "exhaustive", "d": "default"}
    setting = SETTING._replace(search=searches[name], diversity="affine" if views else "none")
    return methods.compose("tip_im", embed, setting).attack


def ours(used: Model, given: Inputs, name: str, *, views: bool = True) -> Attempt:
    """(c) or (d); its inputs lie on the device before it is timed."""
    method, params = composed(name, used.combined.embed, views=views), used.combined.params
    keys = jax.random.split(jax.random.key(0), len(given.images))
    epsilon = jnp.asarray(SETTING.epsilon)
    problem = attack.prepare(*used.combined, given.images, given.targets, epsilon)

    def attempt(steps: int) -> np.ndarray:
        state = attack.initial_state(method, problem)
        kept = {"num_steps": steps, "record": attack.nothing}
        return np.asarray(attack.run(method, params, keys, state, problem, **kept)[0].image)

    return attempt


def one_by_one(used: Model, given: Inputs, name: str, *, views: bool = True) -> Attempt:
    """(r)."""
    diverse = diversity.released_affine() if views else diversity.none()

    def view(key: jax.Array, image: jax.Array) -> jax.Array:
        return diverse.apply(diverse.sample(key), image)

    images, targets = jnp.asarray(given.images), jnp.asarray(given.targets)
    keys = jax.random.split(jax.random.key(0), len(images))

    def last(image: jax.Array, key: jax.Array, steps: int) -> np.ndarray:
        *_, end = released.iterations(
            *used.combined,
            image,
            targets,
            epsilon=SETTING.epsilon,
            alpha=SETTING.alpha,
            steps=steps,
            key=key,
            view=view,
        )
        return np.asarray(end.image)

    return lambda steps: np.stack([last(*pair, steps) for pair in zip(images, keys, strict=True)])


def theirs(used: Model, given: Inputs, name: str, *, views: bool = True) -> Attempt:
    """(a) or (b); a `UserError` where PyTorch has no such network here."""
    import torch

    from experiments.pytorch import tip_im
    from experiments.pytorch.networks import REFERENCES

    embeds = []
    for recogniser, architecture, tensors in used.parts:
        if architecture not in REFERENCES:
            raise UserError(
                f"{recogniser.name} has no form in PyTorch here ({', '.join(REFERENCES)} have one); "
                "give --implementations=rcd"
            )
        reference = REFERENCES[architecture]()
        reference.load(tensors)
        reference.module.requires_grad_(name == "a")
        usual = ARCHITECTURES[architecture]
        seen = (usual.mean, usual.scale, usual.channels == "BGR")
        embeds.append(tip_im.on_canvas(reference.module, recogniser, *seen))
    images = torch.from_numpy(given.images.transpose(0, 3, 1, 2).copy())
    targets = torch.tensor(given.targets)
    attacked, embed = getattr(tip_im, PYTORCH[name]), tip_im.joined(embeds, used.weights)

    def attempt(steps: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(0) if views else None
        ball = tip_im.Ball(SETTING.epsilon, SETTING.alpha, steps)
        made = [
            attacked(embed, part, targets, ball, generator)
            for part in images.split(1 if name == "a" else len(images))
        ]
        return torch.cat(made).detach().numpy().transpose(0, 2, 3, 1)

    return attempt


def contender(name: str, used: Model, given: Inputs, *, views: bool = True) -> Attempt:
    """One of `IMPLEMENTATIONS`, ready to run on these images."""
    make = theirs if name in PYTORCH else one_by_one if name == "r" else ours
    return make(used, given, name, views=views)


@cache
def passes(name: str, targets: int) -> cost.Passes:
    """Passes of a face; all but (d) have those of the exhaustive search."""
    return cost.passes(partial(composed, "d" if name == "d" else "c"), targets, SETTING.steps)


def first_steps(used: Model, targets: int = 10, steps: int = 5) -> float:
    """Share of pixels on which (a) and (c) agree after some steps without random views.

    Sign steps make a pixel whose gradient rounds to the other side of zero differ by whole steps.
    """
    given = inputs(used, targets, 1)
    released = contender("a", used, given, views=False)(steps)
    exhaustive = contender("c", used, given, views=False)(steps)
    return float(np.mean(np.abs(released - exhaustive) < 1e-3))
