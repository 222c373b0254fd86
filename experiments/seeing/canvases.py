"""How much of a mask shows on aligned faces, beside PSNR and SSIM: the MMD, and masks weighed by contrast."""

import jax
import jax.numpy as jnp
import numpy as np

from tipim_jax.core import naturalness, perceptual
from tipim_jax.core.geometry import CANVAS_MARGIN

_GROUP = 50

_mmd = jax.jit(naturalness.mmd)


@jax.jit
def _visible(clean: jax.Array, mask: jax.Array) -> jax.Array:
    """Canvases and masks [B,H,W,3] -> [B] pixel levels."""
    budget = jax.vmap(lambda image: perceptual.budget(image, 1.0, jnp.inf))(clean)
    return jnp.sqrt(jnp.mean((mask / budget) ** 2, axis=(1, 2, 3)))


def visible(clean: np.ndarray, protected: np.ndarray) -> np.ndarray:
    """[P] how visible the masks of canvases [P,160,160,3] uint8 are, pixel levels."""
    a, b = (np.asarray(x, np.float32) for x in (clean, protected))
    return np.concatenate([np.asarray(_visible(x[None], (y - x)[None])) for x, y in zip(a, b)])


def discrepancy(clean: np.ndarray, protected: np.ndarray) -> np.ndarray:
    """[groups] MMD of the faces of canvases [P,160,160,3], in whole groups of 50, at least one."""
    size = min(_GROUP, len(clean))
    inside = slice(CANVAS_MARGIN, -CANVAS_MARGIN)
    a, b = (jnp.asarray(x[:, inside, inside], jnp.float32) for x in (clean, protected))
    return np.array(
        [
            float(_mmd(b[start : start + size], a[start : start + size]))
            for start in range(0, len(clean) - size + 1, size)
        ]
    )
