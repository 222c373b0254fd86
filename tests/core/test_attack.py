"""Promises of `attack.run`, over one table of every composition the parts make."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.core.conftest import METHODS
from tipim_jax.core import attack, batching, constraints, naturalness, search, updates
from tipim_jax.core.types import l2_normalise

STEPS = {"fgsm": 1}
FIXED = ("fgsm", "pgd", "mim", "dim")


def same(ours, theirs, tolerance=1e-9):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance), ours, theirs
    )


def rows_of(tree, rows, axis=0):
    return jax.tree.map(lambda a: jnp.take(a, np.array(rows), axis), tree)


@pytest.mark.usefixtures("x64", "quick_compile")
def test_every_method(world, method_name):
    name, method = method_name, world.method(method_name)
    steps = STEPS.get(name, 4)
    keys = jax.random.split(jax.random.key(5), 3)
    problem = world.problem(12.0)
    final, seen = world.run(method, problem, keys, num_steps=steps)

    # An image's result is its own: wherever it stands, whatever stands beside it, and alone.
    for rows in ([2, 0, 0], [0], [1], [2]) if name == "tip-im" else ([2, 0, 0],):
        problems, own_keys = rows_of(problem, rows), keys[np.array(rows)]
        elsewhere, also = world.run(method, problems, own_keys, num_steps=steps)
        # The same compiled program gives the same bits; another batch size may round otherwise.
        same(elsewhere.image, rows_of(final.image, rows), 0 if len(rows) == 3 else 1e-9)
        same(also, rows_of(seen, rows, axis=1))

    # It moved, it stayed in the ball, in whole levels too, and it did what it is for.
    mask = np.asarray(final.image - problem.image)
    assert np.all(np.abs(mask).max(axis=(1, 2, 3)) > 1)
    if name in FIXED:
        assert np.all(seen["target"] == 1)
        assert np.all(np.isnan(seen["gains"]))
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


# What one of them carries from step to step the others carry too.
CARRIERS = ("tip-im", "tip-im-released", "every", "sticky")


@pytest.mark.usefixtures("x64", "quick_compile")
@pytest.mark.parametrize(
    "name", [n if n in CARRIERS else pytest.param(n, marks=pytest.mark.slow) for n in METHODS]
)
def test_without_records_it_ends_in_the_same_place(world, name):
    """And without knowing the number of steps beforehand."""
    method, steps = world.method(name), STEPS.get(name, 4)
    keys = jax.random.split(jax.random.key(5), 3)
    problem = world.problem(12.0)
    final, _ = world.run(method, problem, keys, num_steps=steps)
    start = attack.initial_state(method, problem)
    last = jax.jit(partial(attack.last, method, world.params, keys, start, problem))
    same(last(num_steps=steps), final)


@pytest.mark.usefixtures("x64", "quick_compile")
def test_padding_changes_no_real_image(world):
    plain, keys = world.method("tip-im"), jax.random.split(jax.random.key(1), 3)
    for count, gamma in [(1, 0.0), (2, 0.02)]:  # the MMD of one photo has nobody to mix up
        real = world.images[:count]
        alone, seen = world.run(plain, world.problem(images=real), keys[:count], gamma=gamma)
        padded, mask = batching.pad(real, 3)
        options = {"mask": jnp.asarray(mask)} if gamma else {}
        for images in (padded, np.concatenate([real, world.images[count:]])):
            problem = world.problem(images=images)
            beside, also = world.run(plain, problem, keys, gamma=gamma, **options)
            same(beside.image[:count], alone.image)
            same(rows_of(also, range(count), axis=1), seen)


@pytest.mark.parametrize("epsilon", [0.5, 3.0, 7.9, "map"])
@pytest.mark.usefixtures("quick_compile")
def test_rounded_mask_is_within_epsilon_exactly(world, epsilon):
    images = world.images.astype(np.float32)
    if epsilon == "map":
        draw = np.random.default_rng(0).uniform(0, 14, (3, 8, 10, 1))
        epsilon = np.where(draw < 2, 0, draw).astype(np.float32)
    final, _ = world.run(world.method("tip-im"), world.problem(epsilon, images))
    saved = np.asarray(constraints.round_within(final.image, images, jnp.asarray(epsilon)))
    assert saved.dtype == np.uint8
    change = np.abs(saved.astype(int) - world.images.astype(int))
    assert np.all(change <= epsilon)
    assert change.max() == np.floor(np.max(epsilon))


@pytest.mark.usefixtures("quick_compile")
def test_no_budget_leaves_the_photo(world):
    final, _ = world.run(world.method("tip-im"), world.problem(0.0))
    np.testing.assert_array_equal(final.image, world.images)


@pytest.mark.usefixtures("quick_compile")
def test_second_call_does_not_compile(world, caplog):
    def protect(seed, epsilon):
        images = np.random.default_rng(seed).integers(0, 256, (2, 8, 10, 3)).astype(np.float32)
        keys = jnp.stack([batching.content_key(seed, image.tobytes()) for image in images])
        problem, method = world.problem(epsilon, images), world.method("tip-im")
        state = attack.initial_state(method, problem)
        return attack.run(method, world.params, keys, state, problem, num_steps=3, gamma=0.5)

    with jax.log_compiles():
        _, progress = protect(1, 12.0)
        assert any("Compiling" in record.message for record in caplog.records)
        caplog.clear()
        size = attack.run._cache_size()
        protect(2, 5.0)
        assert attack.run._cache_size() == size
        assert [record.message for record in caplog.records if "Compiling" in record.message] == []
    shapes = {"target": (3, 2), "loss": (3, 2), "gains": (3, 2, 4)}
    assert jax.tree.map(jnp.shape, progress) == shapes


@pytest.mark.usefixtures("x64", "quick_compile")
@pytest.mark.parametrize("name", ["tip-im", "first-order"])
def test_chunks_of_targets_change_nothing(world, name):
    whole = world.run(world.method(name), world.problem())
    for chunk in (3, 4):  # of 4 targets: a remainder of one, and all together
        same(world.run(world.method(name, chunk=chunk), world.problem()), whole)


def test_chunks_bound_the_memory():
    def embed(params, image):
        x = image[None]
        for kernel in params:
            x = jax.nn.relu(
                jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", None, None, NHWC)
            )
        return l2_normalise(x.mean((0, 1, 2)))

    NHWC = ("NHWC", "HWIO", "NHWC")
    params = [jnp.ones((3, 3, *io)) for io in ((3, 24), (24, 24), (24, 24))]

    def temporary(targets, **options):
        method = attack.tip_im(embed, updates.mi_fgsm(0.25), **options)
        problem = jax.eval_shape(
            lambda i, t: attack.prepare(embed, params, i, t, jnp.asarray(12.0)),
            jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32),
            jax.ShapeDtypeStruct((targets, 24), jnp.float32),
        )
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
        state = jax.eval_shape(lambda p: attack.initial_state(method, p), problem)
        lowered = attack.run.lower(
            method, params, keys, state, problem, num_steps=2, record=attack.nothing
        )
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporary(20, chunk=20) > 2.5 * temporary(5, chunk=20)
    assert temporary(20, chunk=5) < 1.3 * temporary(5, chunk=5)
    assert temporary(20, chunk=1) < temporary(20, chunk=5) < temporary(20, chunk=20) / 2


@pytest.mark.usefixtures("x64", "quick_compile")
def test_rematerialisation_changes_nothing(world):
    whole = world.run(world.method("tip-im"), world.problem())
    same(world.run(world.method("tip-im", chunk=3, remat=True), world.problem()), whole)


@pytest.mark.usefixtures("x64", "quick_compile")
def test_targets_shared_or_per_image(world):
    method = world.method("tip-im")
    shared, seen = world.run(method, world.problem())
    each = world.problem(targets=np.broadcast_to(world.targets, (3, 4, 12)))
    repeated, _ = world.run(method, each)
    np.testing.assert_array_equal(shared.image, repeated.image)
    rolled = np.stack([np.roll(world.targets, i, axis=0) for i in range(3)])
    own, also = world.run(method, world.problem(targets=rolled))
    same(own.image, shared.image)
    np.testing.assert_array_equal(also["target"], (seen["target"] + np.arange(3)) % 4)


@pytest.mark.usefixtures("x64", "quick_compile")
def test_state_is_donated_and_the_problem_is_not(world):
    method, problem = world.method("tip-im"), world.problem()
    expected, _ = world.run(method, problem)
    state = attack.initial_state(method, problem)
    keys = jax.random.split(jax.random.key(5), 3)
    final, seen = attack.run(
        method, world.params, keys, state, problem, num_steps=4, record=lambda step: None
    )
    assert seen is None
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state) if leaf.ndim > 1)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(problem))
    same(final.image, expected.image)


@pytest.mark.usefixtures("x64", "quick_compile")
def test_batch_mmd_enters_gradient_and_loss(world):
    method = attack.tip_im(world.embed, updates.pgd(0.25), search=search.fixed(1))
    problem, gamma = world.problem(), 0.3
    _, seen = world.run(method, problem, num_steps=2, gamma=gamma)
    before, after = np.asarray(seen["image"])
    value, shared = naturalness.mmd_and_gradient(jnp.asarray(before), problem.image)

    def loss(image, real, target):
        f = world.embed(world.params, image)
        return jnp.sum((f - target) ** 2) - jnp.sum((f - real) ** 2)

    step = jax.jit(jax.vmap(jax.value_and_grad(loss), (0, 0, None)))
    target = world.targets[1]
    at_photo, gradient = step(problem.image, problem.embedding, target)
    # Where the batch is still the photos, the MMD and its gradient are nought.
    moved = np.clip(world.images - 3 * np.sign(gradient), 0, 255)
    np.testing.assert_array_equal(before, moved)
    same(seen["losses"][0, :, 1], at_photo)
    at_mask, gradient = step(before, problem.embedding, target)
    assert gamma * value > 1
    same(seen["losses"][1, :, 1], at_mask + gamma * value)
    way = np.sign(
        gradient + gamma * len(world.images) * shared
    )  # of the mean over the batch, Eq. 4
    assert np.any(way != np.sign(gradient))
    moved = np.clip(before - 3 * way, 0, 255)
    same(after, np.clip(moved, world.images - 12, world.images + 12))


def test_whole_levels_of_a_file_are_accepted(world):
    problem = world.problem(images=world.images.astype(np.uint8))
    assert problem.image.dtype == problem.targets.dtype == np.float32
    same(problem, world.problem(images=world.images.astype(np.float32)), 1e-5)


def test_a_budget_map_is_one_per_image(world):
    with pytest.raises(ValueError, match=r"\[B,H,W,1\], not \[8, 10, 1\]"):
        world.problem(np.ones((8, 10, 1)))
    for epsilon in (3.0, np.full(3, 3.0), np.full((3, 8, 10, 1), 3.0)):
        assert world.problem(epsilon).epsilon.shape[0] == 3


@pytest.mark.usefixtures("x64", "quick_compile")
def test_recognisers_see_the_carried_mask(world):
    rng = np.random.default_rng(4)
    carrier = np.eye(8) + rng.normal(0, 0.2, (8, 8))
    real, params = world.images[0, :, :8], {**world.params, "w": world.params["w"][:, :192]}
    world = world._replace(params=params, images=real[None])

    def lossy(params, image):
        mask = image - real
        rows = [sum(carrier[i, k] * mask[k] for k in range(8)) for i in range(8)]
        columns = [sum(carrier[j, k] * jnp.stack(rows)[:, k] for k in range(8)) for j in range(8)]
        return world.embed(params, real + jnp.stack(columns, axis=1))

    problem = world.problem()
    carried, seen = world.run(
        world.method("tip-im"), problem._replace(carrier=jnp.asarray(carrier)[None])
    )
    method = attack.tip_im(lossy, updates.mi_fgsm(0.25))
    expected, also = world.run(method, problem)
    same(carried.image, expected.image)
    same(seen, also)
    plain, _ = world.run(world.method("tip-im"), problem)
    assert np.any(carried.image != plain.image)


@pytest.mark.usefixtures("x64", "quick_compile")
@pytest.mark.parametrize("name", ["tip-im", "tip-im-l2", "reach"])
def test_masks_keep_to_the_colours_of_the_photo(world, name):
    axis = np.array([0.66, 0.59, 0.46]) / np.linalg.norm([0.66, 0.59, 0.46])
    colours = np.stack([np.outer(axis, axis), np.full((3, 3), 1 / 3), np.eye(3)])
    problem = world.problem()
    final, _ = world.run(world.method(name), problem._replace(colours=jnp.asarray(colours)))
    free, _ = world.run(world.method(name), problem)
    mask = np.asarray(final.image - problem.image)
    np.testing.assert_allclose(np.einsum("bhwc,bdc->bhwd", mask, colours), mask, atol=1e-3)
    assert np.all(np.abs(mask).max(axis=(1, 2, 3)) > 1)
    same(final.image[2], free.image[2])
    before, after = problem.embedding, jax.vmap(lambda i: world.embed(world.params, i))(final.image)
    assert np.all(np.sum(before * after, axis=1) < 0.97)
