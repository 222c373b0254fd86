"""Every target search against what its description says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tipim_jax.core import attack, diversity, search, updates
from tipim_jax.core.attack import tip_im
from tipim_jax.core.gains import Gain
from tipim_jax.core.objectives import Objective
from tipim_jax.core.search import IMAGES_AXIS
from tipim_jax.core.types import AttackState, Problem

pytestmark = pytest.mark.usefixtures("x64", "quick_compile")

MI = updates.mi_fgsm(0.25)
SHORT = {"num_steps": 9}


def same(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def embedding_of(world):
    return jax.jit(lambda image: world.embed(world.params, image))


def searched(seen) -> np.ndarray:
    """[N,B] whether the search ran: gains are NaN where it did not look."""
    gains = np.isnan(np.asarray(seen["gains"]))
    assert np.all(gains.all(-1) == gains.any(-1))
    return ~gains.any(-1)


def test_exhaustive_is_a_loop_over_targets(world):
    epsilon, step = 12.0, 0.25
    _, seen = world.run(world.method("tip-im"), world.problem(epsilon))
    embed = embedding_of(world)
    pull = jax.jit(lambda x, c: jax.vjp(embed, x)[1](c)[0])
    for i, real in enumerate(world.images):
        x, momentum, source = real, 0.0, np.asarray(embed(real))
        for n in range(4):
            gains, candidates = [], []
            for target in world.targets:
                grad = np.asarray(pull(x, 2 * (source - target)))
                g = momentum + grad / np.mean(np.abs(grad))
                candidate = x - step * epsilon * np.sign(g)
                candidate = np.clip(np.clip(candidate, real - epsilon, real + epsilon), 0, 255)
                f = np.asarray(embed(candidate))
                margins = np.sum((f - source) ** 2) - np.sum((f - world.targets) ** 2, axis=1)
                gains.append(np.log(1 + np.max(np.exp(margins))))
                candidates.append((candidate, g))
            best = int(np.argmax(gains))
            x, momentum = candidates[best]
            assert seen["target"][n, i] == best
            np.testing.assert_allclose(seen["gains"][n, i], gains, atol=1e-9)
            np.testing.assert_allclose(seen["image"][n, i], x, atol=1e-9)


def test_nearest_and_random(world):
    problem = world.problem()
    _, seen = world.run(tip_im(world.embed, MI, search=search.nearest()), problem)
    assert not searched(seen).any()
    cosines = seen["embedding"] @ world.targets.T
    np.testing.assert_array_equal(seen["target"], np.argmax(cosines, axis=-1))

    method = tip_im(world.embed, updates.pgd(0.25), search=search.at_random())
    _, seen = world.run(method, problem, num_steps=200)
    for i in range(3):
        counts = np.bincount(seen["target"][:, i], minlength=4)
        assert counts.min() > 25  # of 50 expected
    assert np.any(seen["target"][:, 0] != seen["target"][:, 1])


def test_first_and_every(world):
    problem = world.problem()
    _, always = world.run(world.method("tip-im"), problem)
    for schedule, due in [
        (search.first(search.exhaustive(), 3), [0, 1, 2]),
        (search.every(search.exhaustive(), 4), [0, 4, 8]),
    ]:
        _, seen = world.run(tip_im(world.embed, MI, search=schedule), problem, **SHORT)
        expected = np.isin(np.arange(9), due)
        np.testing.assert_array_equal(searched(seen), np.tile(expected[:, None], 3))
        kept = np.flatnonzero(~expected)
        np.testing.assert_array_equal(seen["target"][kept], seen["target"][kept - 1])
        # And it is the search itself while it is due.
        jax.tree.map(lambda a, b: same(a[:1], b[:1]), seen, always)
        if due == [0, 1, 2]:
            jax.tree.map(lambda a, b: same(a[:3], b[:3]), seen, always)


def test_sticky_looks_when_its_image_stalls(world):
    patience = 2
    method = tip_im(
        world.embed, updates.mi_fgsm(0.6), search=search.sticky(search.exhaustive(), patience)
    )
    problem, keys = world.problem(3.0), jax.random.split(jax.random.key(2), 3)
    _, seen = world.run(method, problem, keys, num_steps=16)
    looked = searched(seen)
    for i in range(3):
        best, stalled, target = np.inf, 0, 0
        for n in range(16):
            move = np.asarray(problem.embedding[i]) - world.targets[target]
            loss = float(seen["embedding"][n, i] @ (2 * move))
            stalled = 0 if loss < best else stalled + 1
            due = n == 0 or stalled >= patience
            assert looked[n, i] == due, (n, i)
            best, stalled = (np.inf, 0) if due else (min(best, loss), stalled)
            assert due or seen["target"][n, i] == target
            target = int(seen["target"][n, i])
    # The images stall at different steps, and yet each is as it is among its like.
    assert np.any(looked != looked[:, :1])
    for i in range(3):
        rows = np.array([i, i, i])
        alike = jax.tree.map(lambda a, rows=rows: a[rows], problem)
        _, alone = world.run(method, alike, keys[rows], num_steps=16)
        jax.tree.map(lambda a, b, i=i: same(a[:, 0], b[:, i]), alone, seen)


def test_first_order_predicts_the_gains_of_small_steps(world):
    # Embeddings as good as of unit norm, so that 2 − 2 cos is the squared distance.
    world = world._replace(params=world.params | {"v": world.params["v"] * 1e3})
    errors = []
    for epsilon in (0.4, 0.2, 0.1):
        problem = world.problem(epsilon)
        _, true = world.run(world.method("tip-im"), problem)
        _, predicted = world.run(world.method("first-order"), problem)
        # The first step: both start from the photo.
        true, predicted = (jax.tree.map(lambda a: a[0], seen) for seen in (true, predicted))
        errors.append(np.abs(true["gains"] - predicted["gains"]).max())
        moved = np.abs(true["gains"] - true["gains"].mean(-1, keepdims=True)).max()
        assert errors[-1] < 0.2 * epsilon * moved
        np.testing.assert_array_equal(true["target"], predicted["target"])
        np.testing.assert_allclose(true["image"], predicted["image"], atol=1e-9)
    # Second order: half the step, a quarter of the error.
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("p", [1, 2, 3, np.inf])
def test_reach_is_the_best_of_the_linearised_ball(world, p):
    views = 3
    random = diversity.resize_and_pad(0.6, 0.7) if p == np.inf else diversity.none()
    method = tip_im(
        world.embed,
        MI,
        objective=Objective(attract=1.5, repel=0.5),
        search=search.reach(views, p=p),
        diversity=random,
    )
    epsilon = np.random.default_rng(1).uniform(0, 12, (3, 8, 10, 1))
    problem, keys = world.problem(epsilon), jax.random.split(jax.random.key(9), 3)
    _, seen = world.run(method, problem, keys, num_steps=2)

    @jax.jit
    def look(key, x):
        view = random.sample(key)
        embed = lambda image: world.embed(world.params, random.apply(view, image))  # noqa: E731
        return embed(x), jax.jacrev(embed)(x)

    for i in range(3):
        # In the second step, so that the photo and the image so far are not the same.
        x, real, budget = seen["image"][0, i], world.images[i], epsilon[i]
        search_key = jax.random.fold_in(jax.random.fold_in(keys[i], 1), 1)
        scores = []
        for key in jax.random.split(search_key, views):
            f, jacobian = map(np.asarray, look(key, x))
            row = []
            for target in world.targets:
                v = -2 * (0.5 * np.asarray(problem.embedding[i]) - 1.5 * target)
                slope = np.tensordot(v, jacobian, 1)
                if p == np.inf:
                    mask = budget * np.sign(slope)
                elif p == 1:  # all of it at the steepest value
                    mask = budget * slope
                    mask = np.where(np.abs(mask) == np.abs(mask).max(), np.sign(slope), 0)
                    mask = mask * budget * slope.size
                else:  # |u| ∝ |ε slope|^(q − 1), with mean |u|^p = 1
                    u = np.sign(slope) * np.abs(budget * slope) ** (1 / (p - 1))
                    mask = budget * u / np.mean(np.abs(u) ** p) ** (1 / p)
                row.append(v @ f + np.sum(slope * (real + mask - x)))
            scores.append(row)
        expected = np.mean(scores, axis=0)
        np.testing.assert_allclose(seen["gains"][1, i], expected, rtol=1e-9)
        assert seen["target"][1, i] == np.argmax(expected)


def test_reach_refuses_what_is_no_ball():
    with pytest.raises(ValueError, match="at least 1"):
        search.reach(p=0.5)


T, V = 4, 3
ONE = (1, 1)
COSTS = {  # at step 0 and at step 1: (forward passes, pull-backs) of one image
    "fixed": (search.fixed(), ONE, ONE),
    "at_random": (search.at_random(), ONE, ONE),
    "nearest": (search.nearest(), ONE, ONE),
    "exhaustive": (search.exhaustive(), (T + 1, T), (T + 1, T)),
    "first_order": (search.first_order(), (1, T + 1), (1, T + 1)),
    "reach": (search.reach(V), (V + 1, V * T + 1), (V + 1, V * T + 1)),
    "first": (search.first(search.exhaustive()), (T + 1, T), ONE),
    "every": (search.every(search.first_order(), 2), (1, T + 1), ONE),
    # The kept target is pulled back beside the search, for the images that do not stall.
    "sticky": (search.sticky(search.first_order()), (1, T + 2), ONE),
}


@pytest.mark.parametrize(("name", "count"), [*((name, T) for name in COSTS), ("reach", 1)])
def test_costs_are_those_of_the_table(world, name, count):
    find, *costs = COSTS[name]
    if count == 1:
        costs = [ONE, ONE]  # nothing to choose from
    image, embedding = jnp.asarray(world.images[0]), jnp.asarray(world.targets[0])
    targets = jnp.asarray(world.targets[:count])
    problem = Problem(image, embedding, targets, jnp.asarray(12.0))
    state = AttackState(image, (), jnp.asarray(0, jnp.int32), find.init())
    for step, cost in enumerate(costs):
        forward, pulled = 0, 0

        def look(key):
            nonlocal forward
            forward += 1
            return embedding, pull_back

        def pull_back(cotangents, then=lambda pulled: pulled):
            nonlocal pulled
            pulled += len(cotangents)
            return jax.vmap(then)(jnp.ones((len(cotangents), *image.shape)))

        def embed(images):
            nonlocal forward
            forward += len(images)
            return jnp.ones((len(images), *embedding.shape))

        with jax.disable_jit():  # loops and branches run as written
            _, pull = look(None)
            context = search.Context(
                key=jax.random.key(0),
                step=jnp.asarray(step),
                state=state,
                problem=problem,
                embedding=embedding,
                pull=pull,
                look=look,
                extra=jnp.zeros_like(image),
                propose=lambda gradient: (image - gradient, ()),
                embed=embed,
                objective=Objective(),
                gain=Gain(),
            )
            choose = lambda key, context=context: find.choose(context._replace(key=key))  # noqa: E731
            choice = jax.vmap(choose, axis_name=IMAGES_AXIS)(context.key[None])
        assert (forward, pulled) == cost
        state = state._replace(memory=jax.tree.map(lambda a: a[0], choice.memory))


def test_searches_that_are_not_due_are_branches_not_selections(world):
    for find in (search.every(search.exhaustive(), 4), search.sticky(search.exhaustive())):
        method = tip_im(world.embed, MI, search=find)
        problem = world.problem()
        keys = jax.random.split(jax.random.key(0), 3)
        program = jax.make_jaxpr(
            lambda state, keys=keys, method=method, problem=problem: attack.run(
                method, world.params, keys, state, problem, num_steps=2
            )
        )(attack.initial_state(method, problem))
        assert str(program).count("cond[") == 1


def test_shortlist_searches_the_targets_of_the_largest_reach(world):
    problem = world.problem(12.0)
    ranked = world.run(tip_im(world.embed, MI, search=search.reach(1)), problem, num_steps=1)[1]
    best = np.argsort(-np.asarray(ranked["gains"][0]), axis=1)
    for count in (1, 3):
        method = tip_im(world.embed, MI, search=search.shortlist(search.exhaustive(), count))
        _, seen = world.run(method, problem, **SHORT)
        looked = ~np.isnan(np.asarray(seen["gains"]))
        for image, order in enumerate(best):
            expected = np.isin(np.arange(len(order)), order[:count])
            np.testing.assert_array_equal(looked[:, image], np.tile(expected, (9, 1)))
            assert set(np.asarray(seen["target"])[:, image]) <= set(order[:count].tolist())


def test_a_shortlist_of_the_whole_pool_changes_nothing(world):
    problem = world.problem(12.0)
    count = len(world.targets)
    for inner in (search.exhaustive, lambda: search.sticky(search.first_order(), 2)):
        plain = world.run(tip_im(world.embed, MI, search=inner()), problem, **SHORT)
        short = tip_im(world.embed, MI, search=search.shortlist(inner(), count))
        listed = world.run(short, problem, **SHORT)
        same(listed[0].image, plain[0].image)
        np.testing.assert_array_equal(listed[1]["target"], plain[1]["target"])
