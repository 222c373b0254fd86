"""Who is in a folder of photos: the files of each person, or of a flat folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tipim_jax.errors import UserError
from tipim_jax.photos.folders import photos_below

People = Mapping[str, Sequence[str]]  # person -> photos, as paths below the person's folder


def people_of(root: Path) -> dict[str, list[str]]:
    """Lists the photos in and below the folder of every person; a flat folder is one person called "".

    Raises:
      UserError: there is no folder, or no photo in it.
    """
    if not root.is_dir():
        raise UserError(f"{root} is no folder; give --data_dir a folder of photos")
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    people = {person.name: photos_of(person) for person in folders}
    people = {name: photos for name, photos in people.items() if photos} or {"": photos_of(root)}
    if not any(people.values()):
        raise UserError(f"{root} holds no photos; give --data_dir a folder of photos")
    return people


def photos_of(folder: Path) -> list[str]:
    """The photos in and below a folder, as paths below it, in order."""
    return [str(path.relative_to(folder)) for path in sorted(photos_below(folder))]
