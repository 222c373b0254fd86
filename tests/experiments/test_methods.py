"""Every method of the table does what its row says, on a network small enough to check by hand."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.protection import methods
from experiments.protection.methods import CONTROLS, METHODS, UNTARGETED, Setting
from tipim_jax.core import attack
from tipim_jax.core.ensemble import Ensemble
from tipim_jax.core.objectives import Objective, identity_loss
from tipim_jax.core.types import l2_normalise
from tipim_jax.errors import UserError

NAMES = [*METHODS, "mim" + UNTARGETED, "tip_im" + UNTARGETED]
SHORT = Setting(steps=3, diversity="none")  # views of images of pure noise mean nothing


def embed(params, image):
    return l2_normalise(params["v"] @ jnp.tanh(params["w"] @ ((image - 127.5) / 128).reshape(-1)))


@pytest.fixture(scope="module")
def net() -> Ensemble:
    rng = np.random.default_rng(0)
    w, v = rng.normal(size=(24, 16 * 16 * 3)) * 0.05, rng.normal(size=(12, 24)) * 20
    return Ensemble(embed, {"w": jnp.asarray(w, jnp.float32), "v": jnp.asarray(v, jnp.float32)})


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def targets() -> np.ndarray:
    drawn = np.random.default_rng(2).normal(size=(4, 12)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@cache
def composed(name, setting):
    """Built once, so that tests share what is compiled for it."""
    return methods.compose(name, embed, setting)


def protected(name, net, photos, targets, setting=SHORT, batch_size=3):
    method = composed(name, setting)
    targets = targets[:1] if method.single else targets
    keys = methods.keys(photos, seed=0)
    return methods.protect(method, net, photos, targets, keys, batch_size)


@jax.jit
def losses(params, images, reals, targets):
    """[T,B] to every target."""

    def one(image, real, target):
        e, s = (embed(params, x.astype(jnp.float32)) for x in (image, real))
        return identity_loss(Objective(), e, s, target)

    return jax.vmap(jax.vmap(one, (0, 0, None)), (None, None, 0))(images, reals, targets)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_lowers_its_loss_inside_the_ball(name, net, photos, targets):
    made = protected(name, net, photos, targets)
    assert made.dtype == np.uint8
    assert made.shape == photos.shape
    mask = made.astype(int) - photos
    assert np.abs(mask).max() == (12 if name == "fgsm" else min(12, 3 * 1.5 // 1))
    if UNTARGETED in name:
        before, after = (net.embed(net.params, jnp.asarray(p[0], float)) for p in (photos, made))
        assert before @ after < 0.999
        other = protected(name, net, photos, targets[::-1])
        np.testing.assert_array_equal(made, other)  # targets play no part
    else:
        before, after = (losses(net.params, x, photos, targets) for x in (photos, made))
        assert np.all(after.min(0) < before.min(0))


def test_a_padded_batch_gives_the_same_images(net, photos, targets):
    whole = protected("tip_im", net, photos, targets)
    np.testing.assert_array_equal(protected("tip_im", net, photos[:2], targets), whole[:2])


def test_fgsm_is_the_corner_of_the_ball(net, photos, targets):
    real = jnp.asarray(photos, jnp.float32)
    total = jax.jit(jax.grad(lambda x: jnp.sum(losses(net.params, x, real, targets[:1]))))
    gradient = total(real)
    corner = jnp.clip(real - 12 * jnp.sign(gradient), 0, 255)
    np.testing.assert_array_equal(protected("fgsm", net, photos, targets), corner)


def test_centre_is_the_mean_of_the_losses(net, photos, targets):
    method = methods.compose("center_opt", net.embed, Setting(steps=1, diversity="none", norm="l2"))
    real = jnp.asarray(photos, jnp.float32)
    problem = attack.prepare(*net, real, jnp.asarray(targets), 12.0)
    seen = lambda step: step.choice.gradient  # noqa: E731
    _, gradients = attack.run(
        method.attack,
        net.params,
        methods.keys(photos, 0),
        attack.initial_state(method.attack, problem),
        problem,
        num_steps=1,
        record=seen,
    )

    by_hand = jax.jit(
        jax.grad(lambda x: jnp.sum(jnp.mean(losses(net.params, x, real, targets), axis=0)))
    )(real)
    np.testing.assert_allclose(gradients[0], by_hand, rtol=1e-3, atol=1e-6)


def test_what_sets_a_method_apart_shows(net, photos, targets):
    made = {name: protected(name, net, photos, targets) for name in ("pgd", "mim", "dim", "tim")}
    for a in made:
        for b in made:
            assert (a == b) == np.array_equal(made[a], made[b])


@pytest.mark.parametrize("norm", ["l2", "l2_steps"])
def test_l2_masks_stay_in_their_constraint(norm, net, photos, targets):
    setting = Setting(steps=12, norm=norm)
    mask = protected("mim", net, photos, targets, setting).astype(float) - photos
    if norm == "l2":
        assert np.all(np.sqrt(np.mean(mask**2, axis=(1, 2, 3))) <= 12)
        assert np.abs(mask).max() > 12
    else:
        assert np.abs(mask).max() == 12


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_change_what_they_say(name, photos):
    done = methods.control(name, photos, methods.keys(photos, 0), 5.0)
    change = done.astype(float) - photos
    if name == "unprotected":
        assert not change.any()
    elif name == "noise":
        assert np.all((np.abs(change) == 5) | (done == 0) | (done == 255))
        assert abs(np.sign(change).mean()) < 0.2
    elif name == "pixelate":
        blocks = photos[0, :8, 8:16].astype(float).mean((0, 1))
        np.testing.assert_allclose(done[0, :8, 8:16], np.broadcast_to(blocks, (8, 8, 3)), atol=0.51)
    else:
        assert np.std(done.astype(float)) < np.std(photos.astype(float)) / 4
        np.testing.assert_allclose(done.mean(), photos.mean(), atol=4)


def test_unknown_names_are_refused(net):
    with pytest.raises(UserError, match="unknown method 'mimm'; use fgsm, pgd, mim"):
        methods.compose("mimm", net.embed)
    with pytest.raises(UserError, match="'l3' is none of linf, l2"):
        methods.compose("mim", net.embed, Setting(norm="l3"))
