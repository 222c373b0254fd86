"""The built-in photos are there, small, readable and credited."""

from tipim_jax.photos import demo
from tipim_jax.photos.files import read_photo


def test_demo_photos():
    photos = demo.demo_photos()
    names = [path.name for path in photos]
    assert len(photos) == 7
    assert sum(path.stat().st_size for path in photos) < 700_000
    credits = (photos[0].parent / "CREDITS.md").read_text(encoding="utf-8")
    for path in photos:
        assert max(read_photo(path).pixels.shape) <= 640
        assert f"`{path.name}` |" in credits
    assert all(name in names for pair in demo.SAME_PERSON for name in pair)
