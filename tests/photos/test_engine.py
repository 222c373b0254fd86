"""What is compiled: when, how often, and that the choice of a program depends on what it may depend on."""

import jax
import numpy as np
import pytest

from tests.bulk import world
from tipim_jax.core import attack, ensemble
from tipim_jax.core.geometry import CANVAS_LANDMARKS
from tipim_jax.photos import compilation, engine, presets, programs
from tipim_jax.photos.faces import align
from tipim_jax.photos.folders import Job
from tipim_jax.photos.protect import Models
from tipim_jax.photos.saving import protect_photos

OPEN = world.SETTINGS._replace(batch_size=None)
TARGETS = np.eye(3, 12, dtype=np.float32)


def small(settings, composed=world.light):
    names = ("a", "b", "c")
    return engine.from_recognisers(
        [world.recogniser()], [1.0], names, TARGETS, settings, composed=composed
    )


@pytest.fixture(scope="module")
def left_open():
    """An engine whose batch size is open: eight faces on a CPU."""
    return small(OPEN)


@pytest.fixture
def compiled_since():
    """A list that grows by one whenever XLA compiles anything."""
    seen = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


def faces(count):
    """Faces that are their photos, colours and keys."""
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 256, (count, 160, 160, 3), np.uint8)
    found = [align(photo, CANVAS_LANDMARKS, (40.0, 40.0, 80.0, 100.0)) for photo in photos]
    return (
        found,
        [np.eye(3, dtype=np.float32)] * count,
        list(jax.random.split(jax.random.key(1), count)),
    )


@pytest.mark.usefixtures("quick_compile")
def test_another_strength_or_number_of_steps_compiles_nothing(compiled_since):
    made = small(world.SETTINGS._replace(goal="become"), None)
    given = faces(2)
    first = engine.attack_faces(made, made.full(), *given)
    assert compiled_since
    compiled_since.clear()
    changes = (
        {"steps": 3},
        {"level": 5.0},
        {"epsilon": 2.0},
        {"exponent": 1.0},
        {"travel": 1.5},
        {"repel": 0.0},
    )
    for change in changes:
        turned = made._replace(settings=made.settings._replace(**change))
        other = engine.attack_faces(turned, turned.full(), *given)
        assert np.abs(other.masks - first.masks).max() > 0.1, change
    assert compiled_since == []


def test_every_strength_shares_a_kept_program(monkeypatch):
    settings = [*presets.PRESETS.values(), presets.PRESETS["low"]._replace(steps=7, seed=3)]
    asked = []

    def lower(function, arguments, *about):
        shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), arguments)
        asked.append(repr((shapes, about)))
        raise InterruptedError

    monkeypatch.setattr(programs, "lower", lower)

    def name(settings):
        names = ("a", "b", "c")
        made = engine.from_recognisers(
            [world.recogniser()], [1.0], names, TARGETS, settings, kept="model"
        )
        with pytest.raises(InterruptedError):
            made.full()
        return asked[-1]

    assert len({name(s) for s in settings}) == 1
    others = ({"goal": "become"}, {"gamma": 1.0}, {"precision": "bfloat16"}, {"batch_size": 1})
    assert len({name(settings[0]._replace(**change)) for change in ({}, *others)}) == 5


@pytest.mark.parametrize("goal", ["hide", pytest.param("become", marks=pytest.mark.slow)])
def test_the_program_does_what_the_attack_does(goal):
    """Masks are those of `attack.run` with everything known when it is compiled."""
    settings = world.SETTINGS._replace(steps=3, goal=goal)
    made = small(settings, None)
    found, colours, keys = faces(2)
    masks = engine.attack_faces(made, made.full(), found, colours, keys)
    used = ensemble.combine([world.recogniser()])
    set_to = compilation.dials(made.settings)
    canvases = np.stack([face.canvas for face in found])
    regions = np.stack([face.region for face in found])
    budget = compilation.budgets(canvases, regions, set_to.level, set_to.exponent)
    problem = attack.prepare(used.embed, used.params, canvases, TARGETS, budget)
    problem = problem._replace(
        cap=np.full(2, settings.epsilon, np.float32),
        carrier=np.stack([engine._carrier(1.0)] * 2),
        colours=np.stack(colours),
    )
    method = compilation.compose(used.embed, set_to, goal)
    state = attack.initial_state(method, problem)
    state, seen = attack.run(
        method, used.params, jax.numpy.stack(keys), state, problem, num_steps=3
    )
    np.testing.assert_array_equal(masks.targets, seen["target"][-1])
    moved = np.asarray(state.image - problem.image)
    np.testing.assert_allclose(moved, masks.masks, atol=0.05)
    assert np.abs(moved).max() > 1
    outside = np.broadcast_to(regions == 0, moved.shape)
    assert not masks.masks[outside].any()
    assert np.abs(masks.masks).max() <= settings.epsilon


def test_few_faces_are_attacked_alone(left_open):
    alone = left_open.alone
    assert [alone(1, photos) for photos in (1, 4, 5, 100)] == [True, True, False, False]
    assert [alone(faces, 1) for faces in (4, 5)] == [True, False]
    assert [alone(2, photos) for photos in (2, 3)] == [True, False]
    for change in ({"batch_size": 4}, {"gamma": 1.0}):
        settled = left_open._replace(settings=OPEN._replace(**change))
        assert not settled.alone(1, 1), change


def run(made, photos, out, **options):
    """Which photo got which bytes."""
    jobs = [Job(path, path.relative_to(path.parents[1])) for path in photos]
    models = Models(world.find, made, [])
    for result in protect_photos(models, jobs, out, pictures=False, **options):
        assert not result.error, result.error
    return world.files(out)


def test_only_programs_that_are_used_are_compiled(tmp_path):
    world.write_photos(tmp_path / "in", 5)
    photos = sorted((tmp_path / "in").rglob("*.*"))
    made = small(OPEN)
    run(made, photos[:1], tmp_path / "one")
    assert made.single.made is not None
    assert made.full.made is None
    made = small(OPEN)
    run(made, photos, tmp_path / "all")
    assert made.single.made is None
    assert made.full.made is not None
    assert made.full.made.faces == compilation.MAX_BATCH_ON_CPU
    assert made.compile_seconds == made.full.made.seconds > 0


@pytest.mark.parametrize("count", [2, 5])
def test_what_is_left_of_a_run_gets_the_bytes_of_the_whole(left_open, tmp_path, count):
    world.write_photos(tmp_path / "in", count)
    photos = sorted((tmp_path / "in").rglob("*.*"))
    whole = run(left_open, photos, tmp_path / "whole")
    assert len(whole) == count
    for i in range(count):
        rest = run(left_open, photos[i:], tmp_path / f"from {i}", asked=count)
        assert rest.items() <= whole.items()
