"""Every probe against an independent calculation, and the promise that none changes an attack."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.core.conftest import METHODS, dense
from tipim_jax.analysis import probes, spectrum
from tipim_jax.core import attack, updates
from tipim_jax.core.types import Witnesses, l2_normalise

LANDMARKS = np.array([[2.0, 2], [7, 2], [4.5, 4], [3, 6], [6, 6]])  # of a face of 8×10 pixels
STEPS = 6


def other(params, image):
    """A witness: a network of another kind and embedding size."""
    return l2_normalise(jnp.sin(params @ (image / 255).reshape(-1)))


EMBEDS = (dense, other)
CHEAP = {
    "identity": probes.identity(),
    "movement": probes.movement(),
    "face_regions": probes.face_regions(LANDMARKS),
}
COSTLY = {
    "similarity": probes.similarity(EMBEDS),
    "gram": probes.gram(dense),
    "agreement": probes.agreement(EMBEDS),
    "smoothness": probes.smoothness(dense),
    "hessian": probes.hessian(dense, products=24),
    "jacobian": probes.jacobian(dense, iterations=40),
}
ALL = CHEAP | COSTLY


@pytest.fixture(scope="module")
def witnesses(world):
    rng = np.random.default_rng(3)
    params = (world.params, rng.normal(size=(9, 240)) * 0.3)
    targets = rng.normal(size=(4, 9))
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    with jax.enable_x64(True):
        sources = probes.witness_sources(EMBEDS, params, jnp.asarray(world.images))
        each = tuple(np.tile(t, (3, 1, 1)) for t in (world.targets, targets))
        return Witnesses(params, sources, each)


def method_of(name):
    parts = dict(METHODS[name])
    return attack.tip_im(dense, probes.watched(parts.pop("updates")), **parts)


class Path(NamedTuple):
    """What the attack itself says of the way of one image; every field [N, ...]."""

    before: np.ndarray
    after: np.ndarray
    gradient: np.ndarray
    momentum: np.ndarray
    move: np.ndarray
    target: np.ndarray
    embedding: np.ndarray


def raw(step):
    state = step.after.updates
    return Path(
        step.before.image,
        step.after.image,
        step.choice.gradient,
        state.inner["momentum"].trace,
        state.move,
        step.choice.target,
        step.embedding,
    )


@pytest.fixture(scope="module")
def watched_run(world, witnesses):
    """All probes over one run with random views, its raw path, and the second image of both."""
    measure = probes.record(ALL.values())
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.enable_x64(True):
        _, (seen, path) = world.run(
            method_of("tip-im-released"),
            world.problem(),
            num_steps=STEPS,
            record=lambda step: (measure(step), raw(step)),
            witnesses=witnesses,
        )
    jax.config.update("jax_disable_most_optimizations", False)
    seen = probes.thinned(ALL.values(), seen)
    return {k: v[:, 1] for k, v in seen.items()}, Path(*(np.asarray(a)[:, 1] for a in path))


def cosine(a, b):
    return np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b))


def close(ours, theirs, **tolerance):
    np.testing.assert_allclose(ours, theirs, **{"rtol": 1e-9, "atol": 1e-12, **tolerance})


def square(world):
    """The same world on photos of 8×8 pixels."""
    params = {**world.params, "w": world.params["w"][:, :192]}
    return world._replace(images=world.images[:, :, :8], params=params)


def single(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), tree)


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("reach", ALL), pytest.param("tip-im-released", CHEAP, marks=pytest.mark.slow)],
)
def test_watching_changes_no_bit(world, witnesses, name, chosen):
    """In single precision and fully optimised, where what is fused with what could change a rounding."""
    world = square(world)
    world = world._replace(params=single(world.params), images=single(world.images))
    witnesses = witnesses._replace(params=(world.params, witnesses.params[1][:, :192]))
    chosen = {**chosen, "frequency": probes.frequency()}
    plain, _ = world.run(world.method(name), world.problem(), record=lambda step: ())
    final, seen = world.run(
        method_of(name),
        world.problem(),
        record=probes.record(chosen.values()),
        witnesses=single(witnesses),
    )
    assert np.any(plain.image != world.images)
    np.testing.assert_array_equal(final.image, plain.image)
    assert set(seen) == set(probes.axes(chosen.values()))


def test_identity(world, watched_run):
    seen, path = watched_run
    source = np.asarray(world.embed(world.params, jnp.asarray(world.images[1])))
    to_source = np.sum((path.embedding - source) ** 2, axis=1)
    to_targets = np.sum((path.embedding[:, None] - world.targets) ** 2, axis=2)
    np.testing.assert_array_equal(seen["target"], path.target)
    close(seen["distance_source"], to_source, atol=1e-5)
    close(seen["distance_target"], to_targets, atol=1e-5)
    chosen = to_targets[np.arange(STEPS), path.target]
    close(seen["loss"], (chosen - to_source) / 12, atol=1e-5)  # the mean over 12 features
    np.testing.assert_array_equal(seen["switched"][1:], path.target[1:] != path.target[:-1])
    assert math.isnan(seen["switched"][0])
    np.testing.assert_array_equal(np.argmax(seen["gain"], axis=1), path.target)
    assert np.all(seen["naturalness"] == 0)


def test_movement(world, watched_run):
    seen, path = watched_run
    real, epsilon = world.images[1], 12.0
    mask, moved = path.after - real, path.after - path.before
    for n in range(STEPS):
        close(seen["gradient_norm"][n], np.sqrt(np.sum(path.gradient[n] ** 2)))
        close(seen["cos_momentum"][n], cosine(path.gradient[n], path.momentum[n]))
        close(seen["cos_momentum_mask"][n], cosine(-path.momentum[n], mask[n]))
        close(seen["at_bound"][n], np.mean(np.abs(mask[n]) >= epsilon - 1e-3))
        close(seen["step_rms"][n], np.sqrt(np.mean(moved[n] ** 2)))
        close(seen["mask_rms"][n], np.sqrt(np.mean(mask[n] ** 2)))
        wanted = np.sqrt(np.mean((epsilon * path.move[n]) ** 2))
        close(seen["step_kept"][n], np.sqrt(np.mean(moved[n] ** 2)) / wanted)
        if n == 0:
            for name in ("cos_gradients", "flips_gradient", "flips_move"):
                assert math.isnan(seen[name][0])
            continue
        close(seen["cos_gradients"][n], cosine(path.gradient[n], path.gradient[n - 1]))
        for name, field in (("flips_gradient", path.gradient), ("flips_move", path.move)):
            both = (field[n] != 0) & (field[n - 1] != 0)
            opposite = np.sign(field[n]) != np.sign(field[n - 1])
            close(seen[name][n], np.sum(opposite & both) / np.sum(both))
    assert 0 < seen["at_bound"][-1] < 1


def test_a_budget_map_has_a_bound_of_its_own(world):
    """Half of the pixels have no budget: they are not at their bound, and do not count."""
    budget = np.zeros((3, 8, 10, 1))
    budget[:, :4] = 3
    with jax.enable_x64(True):
        _, seen = world.run(
            method_of("fgsm"),
            world.problem(budget),
            num_steps=1,
            record=probes.record([probes.movement()]),
        )
    held = np.asarray(seen["at_bound"][0])
    clipped = (world.images[:, :4] < 3) | (world.images[:, :4] > 252)
    assert np.all((held >= 1 - clipped.mean(axis=(1, 2, 3))) & (held <= 1))


@pytest.mark.usefixtures("quick_compile")
def test_no_momentum_is_said(world):
    _, seen = world.run(
        method_of("pgd"), world.problem(), record=probes.record([probes.movement()])
    )
    assert np.all(np.isnan(seen["cos_momentum"]))
    assert np.all(np.isfinite(seen["cos_gradients"][1:]))
    adam = optax.chain(optax.scale_by_adam(), optax.scale(-0.1))
    method = attack.tip_im(dense, probes.watched(adam))
    _, seen = world.run(method, world.problem(), record=probes.record([probes.movement()]))
    assert np.all(seen["cos_momentum"][0] > 0.99)  # at first the mean is the gradient
    assert np.all(seen["cos_momentum"][3] < 0.999)


def test_unwatched_updates_are_refused(world):
    with pytest.raises(ValueError, match=r"wrap the updates in `probes.watched`"):
        world.run(world.method("pgd"), world.problem(), record=probes.record([probes.movement()]))


@pytest.mark.usefixtures("quick_compile")
def test_frequency(world):
    """On square images: what `spectrum` gives for the gradient and the mask of the path."""
    world = square(world)
    record = probes.record([probes.frequency()])
    with jax.enable_x64(True):
        _, (seen, path) = world.run(
            method_of("tip-im"), world.problem(), record=lambda s: (record(s), raw(s))
        )
        for n, i in ((0, 0), (3, 2)):
            close(seen["gradient_power"][n, i], spectrum.radial(path.gradient[n, i]))
            mask = path.after[n, i] - world.images[i]
            close(seen["mask_power"][n, i], spectrum.radial(mask))


def test_face_regions(world, watched_run):
    seen, path = watched_run
    masks = spectrum.regions((8, 10), tuple(map(tuple, LANDMARKS.tolist())))[..., None]
    assert np.all(masks.sum(axis=(1, 2, 3)) > 0)
    for n in range(STEPS):
        for name, image in (
            ("gradient", path.gradient[n]),
            ("mask", path.after[n] - world.images[1]),
        ):
            shares = [np.sum((image * mask) ** 2) / np.sum(image**2) for mask in masks]
            close(seen[f"{name}_region"][n], shares, rtol=1e-6)


@pytest.fixture
def nets(world, witnesses, x64):
    """Per witness: its embedding, of the real photo and the targets, as NumPy functions and arrays."""
    jitted = [jax.jit(partial(f, p)) for f, p in zip(EMBEDS, witnesses.params)]
    real = jnp.asarray(world.images[1])
    return [
        (f, jax.jit(jax.jacrev(f)), np.asarray(f(real)), t[1])
        for f, t in zip(jitted, witnesses.targets)
    ]


def test_similarity(watched_run, nets):
    seen, path = watched_run
    for k, (embed, _, source, targets) in enumerate(nets):
        for n in range(STEPS):
            f = np.asarray(embed(path.after[n]))
            close(seen["similarity_source"][n, k], f @ source)
            close(seen["similarity_target"][n, k], targets @ f)


def test_gram(world, watched_run, nets):
    seen, path = watched_run
    _, jacobian, source, _ = nets[0]
    for n in (0, STEPS - 1):
        rows = np.asarray(jacobian(path.before[n])).reshape(12, -1)
        gradients = 2 * (source - world.targets) @ rows
        norms = np.linalg.norm(gradients, axis=1)
        gram = (gradients / norms[:, None]) @ (gradients / norms[:, None]).T
        close(seen["target_gradient_norm"][n], norms)
        close(seen["gram"][n], gram)
        shares = np.linalg.eigvalsh(gram) / 4
        close(seen["effective_rank"][n], np.exp(-np.sum(shares * np.log(shares))))
        close(seen["condition"][n], np.linalg.cond(gram), rtol=1e-6)
    assert np.all((seen["effective_rank"] > 1) & (seen["effective_rank"] < 4))


def test_agreement(watched_run, nets):
    seen, path = watched_run
    for n in (0, STEPS - 1):
        t, gradients = path.target[n], []
        for k, (embed, jacobian, source, targets) in enumerate(nets):
            way = targets[t] - source
            gradient = np.tensordot(way, np.asarray(jacobian(path.before[n])), 1)
            gradients.append(gradient.reshape(-1))
            close(seen["predicted"][n, k], np.sum(gradient * (path.after[n] - path.before[n])))
            realised = (embed(path.after[n]) - embed(path.before[n])) @ way
            close(seen["realised"][n, k], realised)
        a, b = gradients
        close(seen["gradient_cosine"][n], [[1, cosine(a, b)], [cosine(a, b), 1]])
        same = np.mean(np.sign(a) == np.sign(b))
        close(seen["gradient_sign"][n], [[1, same], [same, 1]])


@pytest.mark.usefixtures("quick_compile")
def test_predictions_are_first_order(world, witnesses):
    """Tiny steps do what was predicted, large ones do not."""
    errors = []
    for size in (1e-4, 0.25):
        method = attack.tip_im(dense, updates.pgd(size))
        with jax.enable_x64(True):
            _, seen = world.run(
                method,
                world.problem(),
                record=probes.record([probes.agreement(EMBEDS)]),
                witnesses=witnesses,
            )
        gap = np.abs(seen["predicted"] - seen["realised"]) / np.abs(seen["realised"])
        errors.append(np.median(gap))
    assert errors[0] < 1e-3 < 1e-2 < errors[1]


def test_smoothness(world, watched_run, nets):
    seen, path = watched_run
    embed, jacobian, source, targets = nets[0]
    for n in (0, STEPS - 1):
        before, after, way = path.before[n], path.after[n], source - targets[path.target[n]]
        moved = after - before
        length = np.sqrt(np.sum(moved**2))
        at = lambda x, way=way: 2 * np.tensordot(way, np.asarray(jacobian(x)), 1)  # noqa: E731
        change = np.linalg.norm(embed(after) - embed(before))
        close(seen["lipschitz_embedding"][n], change / length)
        turned = at(after) - at(before)
        close(seen["lipschitz_gradient"][n], np.sqrt(np.sum(turned**2)) / length, rtol=1e-4)
        close(seen["curvature_secant"][n], np.sum(turned * moved) / length**2, rtol=1e-4)


def test_hessian_and_jacobian(world, watched_run, nets):
    seen, path = watched_run
    embed, jacobian, source, targets = nets[0]
    for n in (0, STEPS - 1):
        way = jnp.asarray(source - targets[path.target[n]])
        # The distances to target and source, not their linear form: f is of unit norm up to 1e-5.
        full = jax.jit(jax.hessian(lambda x, way=way: 2 * jnp.vdot(embed(x), way)))
        whole = np.asarray(full(path.before[n])).reshape(240, 240)
        exact = np.linalg.eigvalsh(whole)
        scale = np.abs(exact).max()
        close(seen["hessian_top"][n], exact[::-1][:3], atol=1e-3 * scale)
        close(seen["hessian_bottom"][n], exact[:3], atol=1e-3 * scale)
        moved = (path.after[n] - path.before[n]).reshape(-1)
        along = moved @ whole @ moved / np.sum(moved**2)
        close(seen["curvature_update"][n], along, atol=1e-3 * scale)
        rows = np.asarray(jacobian(path.before[n])).reshape(12, -1)
        _, values, vectors = np.linalg.svd(rows, full_matrices=False)
        close(seen["singular"][n], values[:3], rtol=1e-3)
        inside = np.sum((vectors[:3] @ moved) ** 2) / np.sum(moved**2)
        close(seen["update_in_singular"][n], inside, atol=2e-3)
        gradient = path.gradient[n].reshape(-1)
        inside = np.sum((vectors[:3] @ gradient) ** 2) / np.sum(gradient**2)
        close(seen["gradient_in_singular"][n], inside, atol=2e-3)


@pytest.mark.usefixtures("quick_compile")
def test_a_stride_skips_and_changes_nothing_else(world, witnesses):
    chosen = [probes.identity(), probes.every(probes.similarity(EMBEDS), 3)]
    dense_run = [probes.identity(), probes.similarity(EMBEDS)]
    options = {"num_steps": 8, "witnesses": witnesses}
    with jax.enable_x64(True):
        problem, method = world.problem(), world.method("tip-im")
        _, sparse = world.run(method, problem, record=probes.record(chosen), **options)
        _, whole = world.run(method, problem, record=probes.record(dense_run), **options)
    kept, everything = probes.thinned(chosen, sparse), probes.thinned(dense_run, whole)
    numbers = probes.steps(chosen, 8)
    np.testing.assert_array_equal(numbers["similarity_source"], [0, 3, 6])
    np.testing.assert_array_equal(numbers["target"], np.arange(8))
    for name, values in kept.items():
        close(values, everything[name][numbers[name]])
    assert np.all(np.isnan(np.asarray(sparse["similarity_source"])[[1, 2, 4, 5, 7]]))
    with pytest.raises(ValueError, match="a stride of 0 steps is none"):
        probes.every(probes.identity(), 0)


def test_a_stride_is_a_branch_and_not_a_choice(world, witnesses):
    """In between, the passes are really not made: they stand in one arm of a `cond`."""
    probe = probes.every(probes.similarity(EMBEDS), 3)
    witnesses = single(witnesses)
    method, problem = world.method("tip-im"), world.problem()
    text = str(
        jax.make_jaxpr(
            lambda problem: attack.run(
                method,
                world.params,
                jax.random.split(jax.random.key(0), 3),
                attack.initial_state(method, problem),
                problem,
                num_steps=4,
                record=probes.record([probe]),
                witnesses=witnesses,
            )
        )(problem)
    )
    before, _, arms = text.partition("cond[")
    assert arms
    assert " sin " not in before  # of `other`
    assert " sin " in arms


def test_sizes_are_those_of_the_table(world, witnesses):
    """The table of the module's docstring, for T = 4, K = 2, k = 3."""
    targets, count, top = 4, 2, 3
    expected = {
        "identity": 20 + 8 * targets,
        "movement": 40,
        "face_regions": 32,
        "similarity": 4 * count * (1 + targets),
        "gram": 4 * targets**2 + 4 * targets + 8,
        "agreement": 8 * count**2 + 8 * count,
        "smoothness": 12,
        "hessian": 8 * top + 4,
        "jacobian": 4 * top + 8,
    }
    world = world._replace(params=single(world.params), images=single(world.images))
    problem, method = world.problem(), method_of("tip-im")
    for name, probe in ALL.items():
        _, shapes = jax.eval_shape(
            partial(
                attack.run,
                method,
                num_steps=7,
                record=probes.record([probe]),
                witnesses=single(witnesses),
            ),
            world.params,
            jax.random.split(jax.random.key(0), 3),
            attack.initial_state(method, problem),
            problem,
        )
        assert all(leaf.shape[:2] == (7, 3) for leaf in shapes.values())
        named = probes.axes([probe])
        assert {k: len(v) for k, v in named.items()} == {k: v.ndim for k, v in shapes.items()}
        assert sum(probes.sizes(shapes).values()) == expected[name], name


def test_a_name_is_measured_once():
    with pytest.raises(ValueError, match="two probes measure 'target'"):
        probes.record([probes.identity(), probes.identity()])
