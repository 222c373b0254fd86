"""The built-in photos: public figures, public domain or Creative Commons (see CREDITS.md)."""

from importlib import resources
from pathlib import Path

# Two photos of one person, years apart.
SAME_PERSON = (("macron_2025.jpg", "macron_2014.jpg"), ("ardern_2022.jpg", "ardern_2018.jpg"))


def demo_photos() -> list[Path]:
    """The paths of the built-in photos, sorted by name; one face each."""
    folder = Path(str(resources.files(__name__)))
    return sorted(folder.glob("*.jpg"))
