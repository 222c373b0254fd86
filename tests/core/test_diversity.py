"""Random views against independent samplers, and the distributions they are drawn from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from tipim_jax.core import diversity
from tipim_jax.core.diversity import AffineView

HEIGHT, WIDTH = 13, 18
released = jax.jit(diversity.released_affine().apply)
affine = jax.jit(diversity.affine().apply)


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).uniform(0, 255, (HEIGHT, WIDTH, 3))


def sample(image, matrix):
    """`image` [H,W,C] where a map [2,3] of [−1, 1]² says, zero outside: SciPy's bilinear."""
    height, width = image.shape[:2]
    v, u = np.mgrid[:height, :width]
    u, v = (2 * u + 1) / width - 1, (2 * v + 1) / height - 1
    x = matrix[0, 0] * u + matrix[0, 1] * v + matrix[0, 2]
    y = matrix[1, 0] * u + matrix[1, 1] * v + matrix[1, 2]
    where = [((y + 1) * height - 1) / 2, ((x + 1) * width - 1) / 2]
    channels = [
        ndimage.map_coordinates(image[..., c], where, order=1, mode="grid-constant")
        for c in range(image.shape[2])
    ]
    return np.stack(channels, -1)


def masked(image, matrix):
    ones = np.ones((*image.shape[:2], 1))
    return sample(image, matrix) * (sample(ones, matrix) >= 0.9999)


def turn(theta):
    return np.array([[np.cos(theta), np.sin(theta), 0], [-np.sin(theta), np.cos(theta), 0]])


def draw(seed):
    rng = np.random.default_rng(seed)
    return np.eye(2, 3) + rng.normal(0, 0.1, (2, 3)), rng.normal(0, 0.2)


def test_none_is_the_image(photo):
    view = diversity.none()
    np.testing.assert_array_equal(view.apply(view.sample(jax.random.key(0)), photo), photo)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.usefixtures("x64", "quick_compile")
def test_released_affine_samples_twice(photo, seed):
    matrix, theta = draw(seed)
    view = AffineView(jnp.asarray(matrix), jnp.asarray(theta))
    ours = np.asarray(released(view, jnp.asarray(photo)))
    expected = masked(masked(photo, matrix), turn(theta))
    np.testing.assert_allclose(ours, expected, atol=1e-9)
    assert np.any(np.all(ours == 0, axis=-1))  # the outside
    assert np.mean(ours != 0) > 0.2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.usefixtures("x64", "quick_compile")
def test_affine_samples_once(photo, seed):
    matrix, theta = draw(seed)
    view = AffineView(jnp.asarray(matrix), jnp.asarray(theta))
    ours = affine(view, jnp.asarray(photo))
    both = np.vstack([matrix, [0, 0, 1]]) @ np.vstack([turn(theta), [0, 0, 1]])
    np.testing.assert_allclose(ours, masked(photo, both[:2]), atol=1e-9)
    # Where both see the photo, a ramp shows that the two ways are one map.
    ramp = np.mgrid[1 : HEIGHT + 1, 1 : WIDTH + 1].transpose(1, 2, 0).astype(np.float64)
    once = np.asarray(affine(view, jnp.asarray(ramp)))
    twice = np.asarray(released(view, jnp.asarray(ramp)))
    # The inner sampling leaves zeros that the outer one blends in: away from them only.
    apart = ndimage.minimum_filter((twice != 0).all(-1), 5, mode="constant")
    assert apart.sum() > 20
    np.testing.assert_allclose(once[apart], twice[apart], atol=1e-9)


def test_affine_is_drawn_as_released():
    views = jax.jit(jax.vmap(diversity.sample_affine))(jax.random.split(jax.random.key(0), 20000))
    # Of s ~ U(0.01, 0.1): E[s²] = (0.1³ − 0.01³) / (3 · 0.09).
    spread = np.sqrt((0.1**3 - 0.01**3) / 0.27)
    offsets = np.asarray(views.affine) - np.eye(2, 3)
    np.testing.assert_allclose(offsets.std(axis=0), spread, rtol=0.05)
    np.testing.assert_allclose(offsets.mean(axis=0), 0, atol=3e-3)
    np.testing.assert_allclose(np.std(views.theta), spread, rtol=0.05)
    # One scale for a matrix, another for its angle: |entries| go together, with the angle not.
    size = np.abs(offsets).reshape(-1, 6)
    assert np.corrcoef(size[:, 0], size[:, 5])[0, 1] > 0.1
    assert abs(np.corrcoef(size[:, 0], np.abs(views.theta))[0, 1]) < 0.03


@pytest.mark.usefixtures("x64", "quick_compile")
def test_resize_and_pad(photo):
    smallest, probability = 0.6, 0.7
    dim = diversity.resize_and_pad(smallest, probability)
    views = np.asarray(jax.jit(jax.vmap(dim.sample))(jax.random.split(jax.random.key(1), 4000)))
    size = 1 / views[:, 0, 0]
    np.testing.assert_array_equal(views[:, 0, 0], views[:, 1, 1])
    np.testing.assert_array_equal(views[:, [0, 1], [1, 0]], 0)
    assert np.mean(size < 1) == pytest.approx(probability, abs=0.03)
    shrunk = size[size < 1]
    assert shrunk.min() >= smallest
    assert shrunk.mean() == pytest.approx((smallest + 1) / 2, abs=0.01)
    # The shrunk image, centred at −t·size with half-width size, lies inside the frame, anywhere in it.
    centre = -views[:, :, 2] * size[:, None]
    assert np.all(np.abs(centre) + size[:, None] <= 1 + 1e-12)
    place = centre[size < 1] / (1 - shrunk[:, None])
    assert place.min() < -0.95
    assert place.max() > 0.95
    apply = jax.jit(dim.apply)
    for i in (int(np.argmin(size)), int(np.argmax(size == 1))):
        ours = np.asarray(apply(jnp.asarray(views[i]), jnp.asarray(photo)))
        np.testing.assert_allclose(ours, sample(photo, views[i]), atol=1e-9)
    np.testing.assert_allclose(ours, photo, atol=1e-9)  # the last was of full size


@pytest.mark.parametrize("kind", [diversity.affine(), diversity.resize_and_pad(0.5, 1.0)])
@pytest.mark.usefixtures("quick_compile")
def test_a_key_is_a_view_and_the_outside_is_black(photo, kind):
    image = jnp.asarray(photo, jnp.float32)
    seen = jax.jit(lambda key: kind.apply(kind.sample(key), image))
    once, again, other = (np.asarray(seen(jax.random.key(seed))) for seed in (3, 3, 4))
    np.testing.assert_array_equal(once, again)
    assert np.any(once != other)
    assert once.dtype == np.float32
    assert np.all(once[0, 0] == 0) or np.all(once[-1, -1] == 0)


def test_a_view_of_nothing_is_black(photo):
    far = AffineView(jnp.eye(2, 3).at[0, 2].set(2.5), jnp.asarray(0.0))
    np.testing.assert_array_equal(affine(far, jnp.asarray(photo)), 0)


def test_chain_draws_every_part_by_itself(photo):
    shift = diversity.Diversity(jax.random.uniform, lambda view, image: image + view)
    both = diversity.chain(shift, shift, diversity.Diversity(lambda key: 2.0, jnp.multiply))
    first, second, factor = both.sample(jax.random.key(0))
    assert first != second
    ours = both.apply((first, second, factor), jnp.asarray(photo))
    np.testing.assert_allclose(ours, 2 * (photo + float(first) + float(second)), rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (diversity.swapped_channels(0.3), lambda image: image[..., ::-1]),
        (
            diversity.blurred(0.3, 1.0),
            lambda image: ndimage.gaussian_filter(
                image, 1.0, truncate=2, mode="nearest", axes=(0, 1)
            ),
        ),
    ],
)
def test_sometimes(photo, kind, change):
    views = jax.vmap(kind.sample)(jax.random.split(jax.random.key(2), 2000))
    assert np.mean(views) == pytest.approx(0.3, abs=0.04)
    image = jnp.asarray(photo, jnp.float32)
    np.testing.assert_array_equal(kind.apply(jnp.asarray(False), image), image)
    np.testing.assert_allclose(kind.apply(jnp.asarray(True), image), change(photo), rtol=1e-4)


def test_contrast(photo):
    kind = diversity.contrast(0.3)
    views = np.asarray(jax.vmap(kind.sample)(jax.random.split(jax.random.key(3), 2000)))
    assert (views.min(), views.max()) == pytest.approx((0.7, 1.3), abs=0.01)
    ours = np.asarray(kind.apply(jnp.asarray(0.5), jnp.asarray(photo, jnp.float32)))
    np.testing.assert_allclose(ours.std(), photo.std() / 2, rtol=1e-4)
    np.testing.assert_allclose(ours.mean(), photo.mean(), rtol=1e-5)


def test_deformed_without_deformation_is_the_image_or_its_mirror(photo):
    kind = diversity.deformed(0.0, 0.0, 0.0)
    image = jnp.asarray(photo, jnp.float32)
    seen = jax.jit(lambda key: kind.apply(kind.sample(key), image))
    mirrored = 0
    for seed in range(12):
        ours = np.asarray(seen(jax.random.key(seed)))
        mirror = np.abs(ours - photo).max() > 1
        mirrored += mirror
        np.testing.assert_allclose(ours, photo[:, ::-1] if mirror else photo, atol=1e-3)
    assert 0 < mirrored < 12


def test_deformed_bends_smoothly_by_pixels(photo):
    kind = diversity.deformed(0.0, 0.0, 2.0)
    ramp = jnp.asarray(np.mgrid[:60, :70].transpose(1, 2, 0)[..., ::-1], jnp.float32)
    seen = jax.jit(jax.vmap(lambda key: kind.apply(kind.sample(key), ramp)))
    moved = np.asarray(seen(jax.random.split(jax.random.key(4), 64)))
    upright = np.abs(moved[:, 30, 20, 0] - 20) < np.abs(moved[:, 30, 20, 0] - 49)
    shifts = (moved[upright] - np.asarray(ramp))[:, 15:-15, 15:-15]
    assert 0.8 < shifts.std() < 2.5
    assert np.abs(np.diff(shifts, axis=1)).max() < 1  # no pixel overtakes its neighbour
    assert np.abs(np.diff(shifts, axis=2)).max() < 1
