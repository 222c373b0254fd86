"""One mask for all photos of a person."""

import jax.numpy as jnp
import numpy as np

from experiments.protection import methods, specs
from experiments.protection.methods import Setting
from experiments.studies import opom


def test_one_mask_hides_a_person_in_every_photo(bench):
    combined = specs.combined(("tiny",))
    setting = Setting(epsilon=8.0, alpha=2.0, steps=4, diversity="none")
    method = methods.compose("mim_untargeted", opom.joined(combined.embed), setting)
    photos = bench.gallery.canvases[:3]
    targets = bench.target_embeddings["tiny"][:1]
    mask = opom.mask(method, combined, photos, 4, targets, 0)
    assert 0 < np.abs(mask).max() <= 8
    worn = opom.worn(photos, mask)
    judge = bench.judges[0]
    before, after = (
        np.asarray(judge.embed(judge.params, jnp.asarray(x, jnp.float32))) for x in (photos, worn)
    )
    assert np.all(np.sum(before * after, axis=1) < 0.9995)
    # The photo that only fills the batch up has no say.
    again = opom.mask(method, combined, photos[[0, 1, 2, 2]], 4, targets, 0)
    assert not np.array_equal(mask, again)


def test_the_distance_is_the_mean_over_the_photos(bench):
    combined = specs.combined(("tiny",))
    photos = jnp.asarray(bench.gallery.canvases[:2], jnp.float32)
    weights = jnp.asarray([0.25, 0.75])
    rng = np.random.default_rng(0)
    canvases = [jnp.full((160, 160, 3), 128.0) + rng.integers(-8, 9, (160, 160, 3)) for _ in "ab"]
    stack = opom.joined(combined.embed)
    a, b = (stack((combined.params, photos, weights), canvas) for canvas in canvases)
    by_hand = [
        np.sum(
            np.square(
                np.subtract(
                    *(
                        combined.embed(combined.params, jnp.clip(photo + canvas - 128, 0, 255))
                        for canvas in canvases
                    )
                )
            )
        )
        for photo in photos
    ]
    np.testing.assert_allclose(
        np.sum((a - b) ** 2), 0.25 * by_hand[0] + 0.75 * by_hand[1], rtol=1e-3
    )
