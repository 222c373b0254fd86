"""Padding and keys."""

import hashlib

import jax
import numpy as np
import pytest

from tipim_jax import batching


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
