"""Any `person/photo` tree as a TensorFlow dataset of ArrayRecord files, built and read without TensorFlow.

Photos are stored as the bytes of their files. `tfds.builder_from_directory(DIR).as_data_source("photos")`
reads what `pack` wrote, and every experiment takes DIR as its --data_dir. They take TFDS's own `lfw` as
well, if it was prepared as ArrayRecord; that one keeps no file names, so photos are numbered in its order
and a protocol has to be made of them.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from experiments import data

SPLIT = "photos"


class IdentityFolder(tfds.core.GeneratorBasedBuilder):
    """The photos of an identity folder: image, person and the photo's file name, sorted by both."""

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded. (To look for checksums, TFDS 4.9 needs a package that it does not install.)
    url_infos = None

    def __init__(self, *, root: str | None = None, **options: Any):
        self._root = root
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Photos of people, a folder each.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(),
                    "label": tfds.features.Text(),
                    "name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, str]]]:
        if self._root is None:
            raise ValueError("give root, the identity folder, to build this dataset")
        for person in sorted(path for path in Path(self._root).iterdir() if path.is_dir()):
            for photo in data.photos_of(person):
                example = {"image": str(photo), "label": person.name, "name": photo.name}
                yield f"{person.name}/{photo.name}", example


def pack(root: Path, folder: Path) -> Path:
    """Builds the dataset of an identity folder below `folder`; returns its own folder.

    Raises:
      ValueError: `root` holds no person with a photo.
    """
    if not any(data.photos_of(person) for person in root.iterdir() if person.is_dir()):
        raise ValueError(f"{root} holds no subfolder with photos; make one for each person")
    builder = IdentityFolder(root=str(root), data_dir=str(folder), file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_dir)


def unpack(prepared: Path, root: Path) -> None:
    """Writes the photos of a prepared dataset as an identity folder, all of them or none.

    Raises:
      ValueError: it holds no labelled photos.
    """
    builder = tfds.builder_from_directory(str(prepared))
    features = builder.info.features
    if not {"image", "label"} <= set(features or ()):
        raise ValueError(f"{prepared} holds no photos with labels; pack an identity folder")
    part = root.with_name(f".{root.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    undecoded = {"image": tfds.decode.SkipDecoding()}
    for split in builder.info.splits:
        for example in builder.as_data_source(split=split, decoders=undecoded):
            person = part / example["label"].decode()
            person.mkdir(parents=True, exist_ok=True)
            number = len(list(person.iterdir())) + 1
            name = example.get("name", f"{person.name}_{number:04d}.jpg".encode()).decode()
            (person / name).write_bytes(example["image"])
    part.rename(root)
