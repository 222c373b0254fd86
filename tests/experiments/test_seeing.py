"""What is seen of a protection: regions, measures and the sheet."""

import numpy as np
import pytest
from PIL import Image

from experiments.seeing import sheet, visibility
from experiments.seeing.visibility import head, regions
from tipim_jax.core.geometry import ARCFACE_112

SIZE = (200, 180)
LANDMARKS = ARCFACE_112 * 0.8 + [45, 50]


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    texture = np.random.default_rng(0).normal(0, 6, (*SIZE, 3))
    return np.clip(np.stack([x, y, x + y], -1) / 2 + 40 + texture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def laid():
    return regions(SIZE, LANDMARKS, LANDMARKS[None])


def test_regions(laid):
    inside = [tuple(point.astype(int)[::-1]) for point in LANDMARKS]
    assert all(laid.face[point] for point in inside)
    assert not any(laid.skin[point] for point in inside[:2] + inside[3:])  # eyes and mouth
    assert not (laid.skin & ~laid.face).any()
    assert 0.3 < laid.skin.sum() / laid.face.sum() < 0.6
    assert laid.face[laid.head].sum() == laid.face.sum()
    both = regions(SIZE, LANDMARKS, np.stack([LANDMARKS, LANDMARKS + [60, 0]]))
    assert both.face.sum() > 1.3 * laid.face.sum()
    np.testing.assert_array_equal(both.skin, laid.skin)


def test_a_head_is_cut_at_the_border():
    rows, columns = head((60, 70), ARCFACE_112 - 40)
    assert (rows.start, columns.start) == (0, 0)
    assert rows.stop <= 60
    assert columns.stop <= 70


def test_each_part_sees_its_own_change(photo, laid):
    def seen(where):
        after = photo.copy()
        after[where] += 3
        return visibility.visible(photo, after, photo, laid)

    face, around = seen(laid.face), seen(~laid.face)
    assert face["face PSNR"] == pytest.approx(20 * np.log10(255 / 3), abs=1e-4)
    assert face["around PSNR"] == visibility.MOST
    assert face["changed around"] == 0
    assert around["around PSNR"] == pytest.approx(face["face PSNR"])
    assert around["face PSNR"] == visibility.MOST
    assert around["changed around"] == 1
    assert around["skin ΔE"] == 0 < face["skin ΔE"] <= face["skin ΔE 99 %"]
    assert face["largest change"] == 3
    assert face["face SSIM"] < 1
    assert face["SSIM"] < 1
    for name in visibility.models():
        assert face[f"around {name}"] > around[f"around {name}"]
        assert face[f"face {name}"] < face[f"around {name}"]


def test_more_is_more_visible(photo, laid):
    mask = np.random.default_rng(1).choice([-1, 1], (*SIZE, 3)) * laid.face[..., None]
    faint, strong = (
        visibility.visible(photo, np.clip(photo + k * mask, 0, 255).astype(np.uint8), photo, laid)
        for k in (2, 8)
    )
    for name in ("face PSNR", "face SSIM", *(f"face {n}" for n in visibility.models())):
        assert faint[name] > strong[name]
    for name in ("skin ΔE", "skin ΔE 99 %", "largest change"):
        assert faint[name] < strong[name]


def test_a_photo_that_is_all_face_has_nothing_around(photo):
    large = (ARCFACE_112 - 56) * 6 + [90, 100]
    laid = regions(SIZE, large, large[None])
    assert laid.face.all()
    seen = visibility.visible(photo, photo, photo, laid)
    assert np.isnan(seen["around SSIM"])
    assert np.isnan(seen["changed around"])
    assert seen["face PSNR"] == visibility.MOST


def test_the_sheet_shows_what_is_in_the_files(photo, tmp_path):
    paths = [tmp_path / f"{name}.png" for name in ("before", "after")]
    after = photo.copy()
    after[100, 90] += 5
    for path, pixels in zip(paths, (photo, after)):
        Image.fromarray(pixels).save(path)
    cut = (slice(80, 120), slice(70, 130))
    shown = [sheet.Shown("one & two", paths[0], cut, {"medium": (paths[1], "PSNR 30")})]
    page = sheet.write(tmp_path, shown).read_text()
    assert "one &amp; two" in page
    assert "PSNR 30" in page
    pictures = sorted((tmp_path / "sheet").iterdir())
    assert [path.name for path in pictures] == ["000-00-mask.png", "000-00.png", "000.png"]
    assert all(f"sheet/{path.name}" in page for path in pictures)
    mask, protected, before = (np.asarray(Image.open(path)) for path in pictures)
    np.testing.assert_array_equal(before, photo[cut])
    np.testing.assert_array_equal(protected, after[cut])
    assert (mask[20, 20] == 168).all()
    assert (np.delete(mask.reshape(-1, 3), 20 * 60 + 20, axis=0) == 128).all()
