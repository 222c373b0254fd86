"""Figures against scikit-image, scikit-learn and brute force."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.metrics import roc_auc_score, roc_curve

from tipim_jax.analysis import metrics


@pytest.mark.parametrize("shape", [(7, 9, 3), (24, 17, 3), (40, 40, 1)])
@pytest.mark.parametrize("scale", [0, 1, 12, 100])
def test_image_metrics_are_those_of_scikit_image(shape, scale):
    rng = np.random.default_rng(scale)
    a = rng.integers(0, 256, shape).astype(np.uint8)
    b = np.clip(a + rng.integers(-scale, scale + 1, shape), 0, 255).astype(np.uint8)
    theirs = structural_similarity(a, b, channel_axis=2, data_range=255)
    assert metrics.ssim(a, b) == pytest.approx(theirs, abs=1e-9)
    if scale:
        assert metrics.psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b), abs=1e-9)
    else:
        assert metrics.psnr(a, b) == float("inf")
        assert metrics.ssim(a, b) == 1.0


def test_ssim_needs_a_window():
    with pytest.raises(ValueError, match="7×7"):
        metrics.ssim(np.zeros((6, 20, 3)), np.zeros((6, 20, 3)))


@pytest.mark.parametrize("seed", range(5))
def test_rank_is_a_walk_down_the_gallery(seed):
    rng = np.random.default_rng(seed)
    gallery, probes = rng.integers(0, 8, 20), rng.integers(0, 12, 15)  # some are not in it
    targets = np.array([1, 5, 40])
    similarity = rng.integers(0, 6, (15, 20)) / 6  # many ties
    depths = (1, 3, 5, 100)  # the last beyond the gallery
    ranks = metrics.rank(similarity, gallery, probes, targets, depths)
    for p in range(15):
        walk = sorted(range(20), key=lambda g, p=p: (-similarity[p, g], g))
        for n in depths:
            seen = [gallery[g] for g in walk[:n]]
            assert ranks.targeted[n][p] == any(g in targets for g in seen)
            assert ranks.untargeted[n][p] == (probes[p] not in seen)
    assert np.all(ranks.untargeted[100] == ~np.isin(probes, gallery))


def test_rank_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="gallery of 4"):
        metrics.rank(np.zeros((2, 3)), np.arange(4), np.arange(2), np.arange(1))
    with pytest.raises(ValueError, match="gallery of 0"):
        metrics.rank(np.zeros((2, 0)), np.arange(0), np.arange(2), np.arange(1))


@pytest.mark.parametrize("seed", range(5))
def test_calibration_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    decimals = (17, 1)[seed % 2]  # with ties too
    genuine = np.round(np.clip(rng.normal(0.5, 0.2, 150), -1, 1), decimals)
    impostor = np.round(np.clip(rng.normal(0.0, 0.2, 400), -1, 1), decimals)
    ours = metrics.calibrate(genuine, impostor)
    labels = np.r_[np.ones(150), np.zeros(400)]
    cosines = np.r_[genuine, impostor]
    assert ours.auc == pytest.approx(roc_auc_score(labels, cosines))

    # They accept at and above a cut, so all of their points are ours just below it.
    fpr, tpr, _ = roc_curve(labels, cosines, drop_intermediate=False)
    accuracies = (tpr * 150 + (1 - fpr) * 400) / 550
    assert ours.accuracy == pytest.approx(accuracies.max())
    assert np.mean((cosines > ours.threshold) == labels) == pytest.approx(ours.accuracy)
    for far, threshold in ours.thresholds.items():
        assert np.mean(impostor > threshold) <= far
        lower = impostor[impostor < threshold]
        assert np.mean(impostor > lower.max() - 1e-12) > far or far == 1  # the smallest such
        assert ours.rates[far] == np.mean(genuine > threshold)
        assert ours.rates[far] == pytest.approx(tpr[fpr <= far].max())


def test_thresholds_at_the_ends():
    genuine, impostor = np.array([0.2, 0.6, 0.9]), np.linspace(-0.5, 0.4, 10)
    ours = metrics.calibrate(genuine, impostor, fars=(0.0, 1e-3, 0.1, 0.29, 1.0))
    assert ours.thresholds[0.0] == ours.thresholds[1e-3] == impostor[-1]
    assert ours.thresholds[0.1] == impostor[-2]
    assert np.all(impostor > ours.thresholds[1.0])
    assert ours.rates == {0.0: 2 / 3, 1e-3: 2 / 3, 0.1: 2 / 3, 0.29: 2 / 3, 1.0: 1.0}
    # Shares that floating point puts a hair below a whole number of pairs.
    many = np.arange(100) / 100
    assert np.sum(many > metrics.calibrate(genuine, many, fars=(0.29,)).thresholds[0.29]) == 29


def test_best_accuracy_may_be_to_accept_all():
    ours = metrics.calibrate(np.array([0.1, 0.2, 0.3]), np.array([0.5]))
    assert ours.accuracy == 0.75
    assert ours.threshold < 0.1


@pytest.mark.parametrize("empty", [0, 1])
def test_calibration_needs_both_kinds(empty):
    pairs = [np.ones(3), np.zeros(3)]
    pairs[empty] = np.zeros(0)
    with pytest.raises(ValueError, match="genuine and impostor"):
        metrics.calibrate(*pairs)
