"""Matrix-free curvature against the dense Hessian and Jacobian of the small network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tipim_jax.analysis import curvature

pytestmark = pytest.mark.usefixtures("x64", "quick_compile")


@pytest.fixture(scope="module")
def smooth(world):
    """A loss and an embedding at a photo, their dense Hessian [240,240] and Jacobian [12,240]."""
    with jax.enable_x64(True):
        x = jnp.asarray(world.images[0])
        embed = lambda x: world.embed(world.params, x)  # noqa: E731
        way = jnp.asarray(world.targets[0] - world.targets[1])
        loss = lambda x: jnp.vdot(embed(x), way)  # noqa: E731
        dense = np.asarray(jax.jit(jax.hessian(loss))(x)).reshape(240, 240)
        rows = np.asarray(jax.jit(jax.jacrev(embed))(x)).reshape(12, 240)
    return x, loss, embed, dense, rows


def test_products(smooth):
    x, loss, embed, dense, rows = smooth
    v = np.random.default_rng(0).normal(size=x.shape)
    product = curvature.hessian_product(loss, x, jnp.asarray(v))
    np.testing.assert_allclose(product.reshape(-1), dense @ v.reshape(-1), atol=1e-12)
    np.testing.assert_allclose(
        curvature.jacobian_product(embed, x, jnp.asarray(v)), rows @ v.reshape(-1), atol=1e-12
    )
    along = v.reshape(-1) @ dense @ v.reshape(-1) / np.sum(v**2)
    found = curvature.directional_curvature(loss, x, jnp.asarray(v))
    np.testing.assert_allclose(found, along, rtol=1e-9)
    assert curvature.directional_curvature(loss, x, jnp.zeros_like(x)) == 0


def test_lanczos_finds_both_ends_of_the_hessian(smooth):
    x, loss, _, dense, _ = smooth
    exact, vectors = np.linalg.eigh(dense)
    start = jax.random.normal(jax.random.key(0), x.shape)
    found = jax.jit(
        lambda start: curvature.lanczos(lambda v: curvature.hessian_product(loss, x, v), start, 24)
    )(start)
    scale = np.abs(exact).max()
    np.testing.assert_allclose(found.values[:3], exact[::-1][:3], atol=1e-3 * scale)
    np.testing.assert_allclose(found.values[::-1][:3], exact[:3], atol=1e-3 * scale)
    np.testing.assert_allclose(
        np.abs(np.asarray(found.vectors[0]).reshape(-1) @ vectors[:, -1]), 1, atol=1e-3
    )


def test_lanczos_ends_where_the_space_ends():
    """A map of rank 2 has two eigenvalues, however many products are made."""
    rng = np.random.default_rng(1)
    q, _ = np.linalg.qr(rng.normal(size=(30, 2)))
    matrix = jnp.asarray(3 * np.outer(q[:, 0], q[:, 0]) - 2 * np.outer(q[:, 1], q[:, 1]))
    found = curvature.lanczos(lambda v: matrix @ v, jnp.asarray(rng.normal(size=30)), 9)
    values = np.asarray(found.values)
    np.testing.assert_allclose(values[[0, -1]], [3, -2], atol=1e-9)
    np.testing.assert_allclose(values[1:-1], 0, atol=1e-9)
    assert np.all(np.isfinite(found.vectors))


def test_singular_values_and_directions(smooth):
    x, _, embed, _, rows = smooth
    _, exact, vectors = np.linalg.svd(rows, full_matrices=False)
    start = jax.random.normal(jax.random.key(3), (3, *x.shape))
    found = jax.jit(lambda start: curvature.singular(embed, x, start, 40))(start)
    np.testing.assert_allclose(found.values, exact[:3], rtol=1e-3)
    flat = np.asarray(found.vectors).reshape(3, -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(np.abs(np.sum(flat * vectors[:3], axis=1)), 1, atol=1e-3)


def test_secant_curvature_is_the_mean_of_the_exact_one(smooth):
    x, loss, _, _, _ = smooth
    move = jnp.asarray(np.random.default_rng(2).normal(size=x.shape) * 3)
    gradient = jax.grad(loss)
    found = curvature.secant_curvature(gradient(x), gradient(x + move), move)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    along = jax.jit(lambda t: curvature.directional_curvature(loss, x + t * move, move))
    mean = sum(w / 2 * along((t + 1) / 2) for t, w in zip(nodes, weights))
    np.testing.assert_allclose(found, mean, rtol=1e-6)


def test_plane_is_the_loss_at_every_point(smooth):
    x, loss, _, _, _ = smooth
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(2, *x.shape)) * 40
    at_first, at_second = np.linspace(-1, 2, 4), np.linspace(-1, 1, 3)
    found = curvature.plane(
        loss, x, *map(jnp.asarray, (first, second)), jnp.asarray(at_first), jnp.asarray(at_second)
    )
    assert found.shape == (4, 3)
    for i, a in enumerate(at_first):
        for j, b in enumerate(at_second):
            point = np.clip(np.asarray(x) + a * first + b * second, 0, 255)
            np.testing.assert_allclose(found[i, j], loss(jnp.asarray(point)), atol=1e-12)
