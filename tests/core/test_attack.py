"""Promises of `attack.run`, over one table of every composition the parts make."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tipim_jax import attack, batching, constraints, diversity, naturalness, search, updates
from tipim_jax.attack import tip_im
from tipim_jax.gains import Gain
from tipim_jax.objectives import Objective

MI = updates.mi_fgsm(0.25)
RELEASED = updates.mi_fgsm(0.25, direction=updates.l2_direction())
FIXED, DIM = search.fixed(1), diversity.resize_and_pad()
METHODS = {
    "fgsm": dict(updates=updates.fgsm(), search=FIXED),
    "pgd": dict(updates=updates.pgd(0.25), search=FIXED),
    "mim": dict(updates=MI, search=FIXED),
    "dim": dict(updates=MI, search=FIXED, diversity=DIM),
    "tim": dict(updates=optax.chain(updates.smooth(5, 1.5), MI), search=search.nearest()),
    "mt-dim": dict(updates=MI, search=search.at_random(), diversity=DIM),
    "center-opt": dict(updates=MI, gain=Gain("sum")),
    "tip-im": dict(updates=MI),
    "tip-im-min": dict(updates=MI, gain=Gain("min")),
    "tip-im-released": dict(
        updates=RELEASED,
        objective=Objective(mean=True),
        gain=Gain(squared=False),
        diversity=diversity.released_affine(),
    ),
    "tip-im-l2": dict(updates=RELEASED, project=constraints.l2_ball),
    "first-order": dict(updates=MI, search=search.first_order()),
    "reach": dict(updates=MI, search=search.first(search.reach(2))),
    "every": dict(updates=MI, search=search.every(search.exhaustive(), 3)),
    "sticky": dict(updates=MI, search=search.sticky(search.first_order(), 1)),
    "dodging": dict(updates=MI, objective=Objective(attract=0.0), search=search.fixed()),
    "impersonation": dict(updates=MI, objective=Objective(repel=0.0)),
}
STEPS = {"fgsm": 1}
ALONE = ("tip-im", "mt-dim", "sticky")  # also run one image at a time


@pytest.fixture(scope="module")
def plain(world):
    """One TIP-IM for all tests that need no other, so that it is compiled once a shape."""
    return tip_im(world.embed, MI)


def same(ours, theirs, tolerance=1e-9):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance), ours, theirs
    )


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.usefixtures("x64", "quick_compile")
def test_every_method(world, name):
    method = tip_im(world.embed, **METHODS[name])
    steps = STEPS.get(name, 5)
    keys = jax.random.split(jax.random.key(5), 3)
    problem = world.problem(12.0)
    final, seen = world.run(method, problem, keys, num_steps=steps)

    # An image's result is its own, whatever stands beside it and wherever it stands.
    rows = np.array([2, 0, 0])
    for rows in ([2, 0, 0], [0], [1], [2]) if name in ALONE else ([2, 0, 0],):
        rows = np.array(rows)
        others = jax.tree.map(lambda a, rows=rows: a[rows], problem)
        elsewhere, seen_elsewhere = world.run(method, others, keys[rows], num_steps=steps)
        # The same compiled program gives the same bits; another batch size may round otherwise.
        same(elsewhere.image, final.image[rows], 0 if len(rows) == 3 else 1e-9)
        same(seen_elsewhere, jax.tree.map(lambda a, rows=rows: a[:, rows], seen))

    # It moved, it stayed in the ball, in whole levels too, and it did what it is for.
    mask = np.asarray(final.image - problem.image)
    assert np.all(np.abs(mask).max(axis=(1, 2, 3)) > 1)
    if name == "tip-im-l2":
        assert np.all(np.sqrt(np.mean(mask**2, axis=(1, 2, 3))) <= 12 + 1e-9)
        rounded = constraints.truncate_within(final.image, problem.image)
        rounded = np.asarray(rounded, int) - world.images
        assert np.all(np.sqrt(np.mean(rounded**2, axis=(1, 2, 3))) <= 12)
    else:
        rounded = constraints.round_within(final.image, problem.image, 12.0)
        assert np.abs(np.asarray(rounded, int) - world.images).max() == 12
    after = np.array([world.embed(world.params, image) for image in final.image])
    if name == "impersonation":
        closer = np.max(after @ world.targets.T, axis=1)
        assert np.all(closer > np.max(problem.embedding @ world.targets.T, axis=1))
    else:
        assert np.all(np.sum(after * problem.embedding, axis=1) < 0.99)


@pytest.mark.usefixtures("x64", "quick_compile")
@pytest.mark.parametrize("gamma", [0.0, 0.02])
def test_padding_changes_no_real_image(world, plain, gamma):
    keys = jax.random.split(jax.random.key(1), 4)
    alone, seen = world.run(plain, world.problem(images=world.images[:2]), keys[:2], gamma=gamma)
    padded, mask = batching.pad(world.images[:2], 4)
    for images in (padded, np.concatenate([world.images[:2], world.images[[2, 2]]])):
        options = {"mask": jnp.asarray(mask)} if gamma else {}
        beside, also = world.run(plain, world.problem(images=images), keys, gamma=gamma, **options)
        same(beside.image[:2], alone.image)
        same(jax.tree.map(lambda a: a[:, :2], also), seen)


@pytest.mark.parametrize("epsilon", [0.5, 3.0, 7.9, "map"])
def test_rounded_mask_is_within_epsilon_exactly(world, plain, epsilon):
    images = world.images.astype(np.float32)
    if epsilon == "map":
        draw = np.random.default_rng(0).uniform(0, 14, (3, 8, 10, 1))
        epsilon = np.where(draw < 2, 0, draw).astype(np.float32)
    final, _ = world.run(plain, world.problem(epsilon, images))
    saved = np.asarray(constraints.round_within(final.image, images, jnp.asarray(epsilon)))
    assert saved.dtype == np.uint8
    change = np.abs(saved.astype(int) - world.images.astype(int))
    assert np.all(change <= epsilon)
    assert np.all(change.max(axis=(1, 2, 3)) == np.floor(np.max(epsilon, axis=None)))


def test_second_call_does_not_compile(world, caplog):
    method = tip_im(world.embed, MI, search=search.every(search.exhaustive(), 2))

    def protect(seed, epsilon):
        images = np.random.default_rng(seed).integers(0, 256, (2, 8, 10, 3)).astype(np.float32)
        keys = jnp.stack([batching.content_key(seed, image.tobytes()) for image in images])
        final, _ = world.run(method, world.problem(epsilon, images), keys, gamma=0.5)
        return np.asarray(final.image)

    with jax.log_compiles():
        protect(1, 12.0)
        assert any("Compiling" in record.message for record in caplog.records)
        caplog.clear()
        size = attack.run._cache_size()
        protect(2, 5.0)
        assert attack.run._cache_size() == size
        assert [record.message for record in caplog.records if "Compiling" in record.message] == []


@pytest.mark.usefixtures("x64", "quick_compile")
@pytest.mark.parametrize("find", [search.exhaustive(), search.first_order()])
def test_chunks_of_targets_change_nothing(world, find):
    problem = world.problem()
    whole, seen = world.run(tip_im(world.embed, MI, search=find), problem)
    for chunk in (1, 3):
        method = tip_im(world.embed, MI, search=find, chunk=chunk)
        chunked, also = world.run(method, problem)
        same(chunked.image, whole.image)
        same(also, seen)


def test_targets_shared_or_per_image(world, plain):
    shared, _ = world.run(plain, world.problem())
    each = world.problem(targets=np.broadcast_to(world.targets, (3, 4, 12)))
    repeated, _ = world.run(plain, each)
    np.testing.assert_array_equal(shared.image, repeated.image)
    rolled = np.stack([np.roll(world.targets, i, axis=0) for i in range(3)])
    own, seen = world.run(plain, world.problem(targets=rolled))
    same(own.image, shared.image, 1e-3)
    _, seen_shared = world.run(plain, world.problem())
    np.testing.assert_array_equal(seen["target"], (seen_shared["target"] + np.arange(3)) % 4)


def test_state_is_donated_and_the_problem_is_not(world, plain):
    problem = world.problem()
    state = attack.initial_state(plain, problem)
    keys = jax.random.split(jax.random.key(5), 3)
    final, seen = attack.run(
        plain, world.params, keys, state, problem, num_steps=2, record=lambda step: None
    )
    assert seen is None
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state) if leaf.ndim > 1)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(problem))
    again, progress = attack.run(
        plain, world.params, keys, attack.initial_state(plain, problem), problem, num_steps=2
    )
    np.testing.assert_array_equal(final.image, again.image)
    assert jax.tree.map(jnp.shape, progress) == {
        "target": (2, 3),
        "loss": (2, 3),
        "gains": (2, 3, 4),
    }


@pytest.mark.parametrize("project", [constraints.linf_ball, constraints.l2_ball])
def test_no_budget_leaves_the_photo(world, project):
    final, _ = world.run(tip_im(world.embed, MI, project=project), world.problem(0.0))
    np.testing.assert_array_equal(final.image, world.images)


@pytest.mark.usefixtures("x64", "quick_compile")
def test_batch_mmd_enters_gradient_and_loss(world):
    method = tip_im(world.embed, updates.pgd(0.25), search=search.fixed(1))
    problem, gamma = world.problem(), 0.3
    _, seen = world.run(method, problem, num_steps=2, gamma=gamma)
    _, free = world.run(method, problem, num_steps=2)
    before, after = np.asarray(seen["image"])
    np.testing.assert_array_equal(before, free["image"][0])  # X = X_r: no gradient yet
    value, gradient = naturalness.mmd_and_gradient(jnp.asarray(before), problem.image)
    np.testing.assert_allclose(seen["losses"][1] - free["losses"][1], gamma * value, atol=1e-12)

    def loss(image, real, target):
        towards = jnp.sum((world.embed(world.params, image) - target) ** 2)
        return towards - jnp.sum((world.embed(world.params, image) - real) ** 2)

    own = jax.vmap(jax.grad(loss), (0, 0, None))(before, problem.embedding, world.targets[1])
    moved = np.clip(before - 3 * np.sign(own + gamma * gradient), 0, 255)
    np.testing.assert_allclose(after, np.clip(moved, world.images - 12, world.images + 12))
    assert np.any(after != free["image"][1])


def test_whole_levels_of_a_file_are_accepted(world):
    problem = world.problem(images=world.images.astype(np.uint8))
    assert problem.image.dtype == problem.targets.dtype == np.float32
    same(problem, world.problem(images=world.images.astype(np.float32)))


def test_a_budget_map_is_one_per_image(world):
    with pytest.raises(ValueError, match=r"\[B,H,W,1\], not \[8, 10, 1\]"):
        world.problem(np.ones((8, 10, 1)))
    for epsilon in (3.0, np.full(3, 3.0), np.full((3, 8, 10, 1), 3.0)):
        assert world.problem(epsilon).epsilon.shape[0] == 3
