"""Recordings as files, what is drawn from them, and the optimisers that are compared."""

import io
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from PIL import Image
from scipy import stats

from experiments.recordings import optimisers, path_plots, questions, recorder, recording, surface
from tipim_jax.analysis import probes
from tipim_jax.core.objectives import Objective
from tipim_jax.errors import UserError

IMAGES, STEPS = 5, 6


@pytest.fixture
def made() -> xr.Dataset:
    rng = np.random.default_rng(0)
    own = {
        "loss": (),
        "switched": (),
        "step_rms": (),
        "mask_rms": (),
        "similarity_source": ("witness",),
        "similarity_target": ("witness", "targets"),
        "gradient_cosine": ("witness", "other_witness"),
        "predicted": ("witness",),
        "realised": ("witness",),
        "gram": ("targets", "other_targets"),
        "mask_region": ("region",),
        "mask_power": ("frequency",),
    }
    sizes = {"witness": 2, "other_witness": 2, "targets": 3, "other_targets": 3, "region": 4}
    sizes["frequency"] = 9
    at = {name: "look" if axes else "step" for name, axes in own.items()}
    values = {
        name: (
            ("image", at[name], *axes),
            rng.uniform(0.1, 1, (IMAGES, STEPS, *(sizes[axis] for axis in axes))),
        )
        for name, axes in own.items()
    }
    values["switched"][1][:, 0] = np.nan
    witnesses = ["here", "there"]
    return xr.Dataset(
        values,
        {
            "step": np.arange(STEPS),
            "look": np.arange(0, 2 * STEPS, 2),
            "witness": witnesses,
            "other_witness": witnesses,
            "region": ["eyes", "nose", "mouth", "rest"],
        },
    )


def test_a_recording_is_found_again(made, tmp_path):
    path = tmp_path / "recording.nc"
    made["Rank-1-T"] = (("image", "judge"), np.array([[True], [False]] * 2 + [[True]]))
    recording.save(path, made)
    xr.testing.assert_identical(recording.load(path), made)
    other = tmp_path / "other.nc"
    np.savez(other, x=np.zeros(3))
    for wrong in (other.with_suffix(".nc.npz"), tmp_path / "none.nc"):
        with pytest.raises(UserError, match="is not a recording"):
            recording.load(wrong)


def test_quantiles_leave_out_what_was_not_measured():
    values = xr.DataArray([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan], [8.0, np.nan]])
    np.testing.assert_array_equal(recording.quantiles(values, 0.5), [3, np.nan])
    np.testing.assert_array_equal(recording.quantiles(values, [0, 1])[:, 0], [1, 8])


def test_every_kind_of_quantity_has_a_picture(made):
    shown = path_plots.pictures({"a": made, "b": made.copy()})
    titles = {picture.title for picture in shown}
    assert {
        "Identity",
        "Movement",
        "Recognisers along the path",
        "Agreement of gradients",
        "Predicted change",
        "Realised change",
        "Energy of the mask in the face",
        "Spectrum of the mask",
        "Gram matrix of a",
        "Predicted and realised",
    } <= titles
    assert "Hessian" not in titles
    for picture in shown:
        assert picture.note.endswith(".")
        assert "{" not in picture.note
        pixels = np.asarray(Image.open(io.BytesIO(picture.png)).convert("L"))
        assert pixels.std() > 5


def test_what_is_not_recorded_is_not_drawn(made):
    assert [p.title for p in path_plots.pictures({"a": made[["loss"]]})] == ["Identity"]
    unknown = made[["loss"]].assign(loss=made["loss"] * np.nan)
    assert path_plots.pictures({"a": unknown}) == []


def test_lines_are_medians_and_quartiles(made):
    values = np.arange(20.0).reshape(5, 4)
    line = path_plots.line(xr.DataArray(values, dims=("image", "step")))
    np.testing.assert_array_equal(line.x, np.arange(4))
    np.testing.assert_array_equal(line.y, values[2])
    np.testing.assert_array_equal(line.low, values[1])
    np.testing.assert_array_equal(line.high, values[3])


def test_a_path_is_as_long_as_its_steps(made):
    path, steps = path_plots.path(made), made["step_rms"]
    np.testing.assert_allclose(path[:, -1], steps.sum("step"))
    np.testing.assert_array_equal(path["step"], made["step"])
    np.testing.assert_allclose(
        path_plots.straightness(made)[:, 0], (made["mask_rms"] / steps)[:, 0]
    )


def test_panels_are_called_as_the_places_of_their_axis(made):
    (pairs,), _ = path_plots.CURVES["Agreement of gradients"]
    panels = pairs.panels(made)
    assert list(panels) == ["first witness and: there"]
    xr.testing.assert_equal(
        panels["first witness and: there"].drop_vars(("witness", "other_witness")),
        made["gradient_cosine"][:, :, 0, 1].drop_vars(("witness", "other_witness")),
    )


@pytest.mark.parametrize("name", optimisers.VARIANTS)
def test_variants_travel_equally_far_downhill(name):
    """Under a constant gradient every step goes against it, and the steps add up to the travel.

    AdaBelief goes further: it divides by the surprise in the gradient, and here there is none.
    """
    steps = 12
    gradient = jax.random.normal(jax.random.key(0), (4, 5, 3))
    updates = optimisers.VARIANTS[name](steps)
    state, total = updates.init(gradient), jnp.zeros_like(gradient)
    for _ in range(steps):
        move, state = updates.update(gradient, state, gradient)
        total += move
        if name == "ℓ2 direction":
            np.testing.assert_allclose(jnp.sqrt(jnp.mean(move**2)), optimisers.TRAVEL / steps, 1e-5)
        else:
            np.testing.assert_array_equal(jnp.sign(move), -jnp.sign(gradient))
    length = jnp.sqrt(jnp.mean(total**2))
    if name == "AdaBelief":
        assert length > optimisers.TRAVEL
    else:
        np.testing.assert_allclose(length, optimisers.TRAVEL, rtol=2e-3)


def test_schedules_shrink():
    gradient = jnp.ones((2, 2, 3))
    for name in ("cosine steps", "1/√t steps"):
        updates = optimisers.VARIANTS[name](8)
        state, sizes = updates.init(gradient), []
        for _ in range(8):
            move, state = updates.update(gradient, state)
            sizes.append(float(jnp.abs(move).max()))
        assert all(a > b for a, b in itertools.pairwise(sizes)), name


def test_partial_rank_correlation_sees_through_a_common_cause():
    rng = np.random.default_rng(1)
    cause, a, b = rng.normal(size=(3, 2000))
    a, b = np.exp(cause + 0.3 * a), (cause + 0.3 * b) ** 3
    alone = questions._rank_correlation(a, b)
    np.testing.assert_allclose(alone, stats.spearmanr(a, b).statistic, rtol=1e-9)
    assert alone > 0.8
    assert abs(questions._rank_correlation(a, b, given=cause)) < 0.1
    assert np.isnan(questions._rank_correlation(np.ones(5), np.arange(5.0)))


def test_the_second_direction_is_orthogonal_and_as_long():
    rng = np.random.default_rng(2)
    mask, direction = rng.normal(size=(2, 6, 6, 3))
    across = np.asarray(surface._orthogonal(jnp.asarray(direction), jnp.asarray(mask)))
    assert abs(np.sum(across * mask)) < 1e-3
    np.testing.assert_allclose(np.sum(across**2), np.sum(mask**2), rtol=1e-5)


def test_every_probe_has_a_name_and_its_quantities_one_home():
    assert set(recorder.DEFAULT) <= set(recorder.PROBES)
    chosen = [make(lambda p, x: x, Objective(), ()) for make in recorder.PROBES.values()]
    assert len(probes.axes(chosen)) == sum(len(probe.axes) for probe in chosen)
