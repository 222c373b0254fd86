"""Padding and keys."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tipim_jax.core import batching


def test_pad():
    rows = np.arange(6).reshape(3, 2)
    padded, mask = batching.pad(rows, 5)
    np.testing.assert_array_equal(padded, [[0, 1], [2, 3], [4, 5], [4, 5], [4, 5]])
    np.testing.assert_array_equal(mask, [True, True, True, False, False])
    full, mask = batching.pad(rows, 3)
    np.testing.assert_array_equal(full, rows)
    assert mask.all()
    for count in (0, 6):
        with pytest.raises(ValueError, match=f"of 5 cannot hold {count}"):
            batching.pad(np.zeros((count, 2)), 5)


def test_keys_follow_the_content():
    data = lambda *args: tuple(  # noqa: E731
        np.asarray(jax.random.key_data(batching.content_key(*args))).tolist()
    )
    assert data(0, b"photo") == data(0, b"photo", 0)
    keys = [data(0, b"photo"), data(1, b"photo"), data(0, b"other"), data(0, b"photo", 1)]
    assert len(set(keys)) == 4
    # Digests fill all 32 bits.
    high = next(
        str(i).encode() for i in range(100) if hashlib.sha256(str(i).encode()).digest()[0] > 250
    )
    assert len(data(0, high)) == 2


def products(size: int) -> jax.stages.Compiled:
    """Takes, returns and keeps in between a few arrays of [size, 1000], beside a large one."""
    images = jax.ShapeDtypeStruct((size, 1000), jnp.float32)
    weights = jax.ShapeDtypeStruct((1000, 1000), jnp.float32)
    return jax.jit(lambda x, w: jnp.sin(x @ w) @ w).lower(images, weights).compile()


def test_memory_counts_arguments_results_and_what_is_between():
    weights = 1000 * 1000 * 4
    assert batching.memory(products(8)) >= weights + 2 * 8 * 1000 * 4
    assert batching.memory(products(64)) - batching.memory(products(8)) >= 2 * 56 * 1000 * 4


@pytest.mark.parametrize("fitting", [1, 2, 16, 64])
def test_the_largest_batch_that_fits(fitting):
    limit = batching.memory(products(fitting))
    tried = []

    def compiled(size):
        tried.append(size)
        return products(size)

    size, program = batching.largest(compiled, 64, limit)
    assert size == fitting
    assert batching.memory(program) == limit  # twice as many would not fit
    assert program.args_info[0][0].shape == (fitting, 1000)
    assert len(tried) <= 3


def test_nothing_fits():
    with pytest.raises(ValueError, match=r"a single face takes 0\.0 GiB and 0\.0 GiB may be used"):
        batching.largest(products, 64, 1000)
