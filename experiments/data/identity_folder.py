"""Any `person/photo` tree as a TensorFlow dataset of ArrayRecord files, built and read without TensorFlow.

Photos are stored as the bytes of their files. `tfds.builder_from_directory(DIR).as_data_source("photos")`
reads what `pack` wrote, and every experiment takes DIR as its --data_dir. They take TFDS's own `lfw` as
well, if it was prepared as ArrayRecord; that one keeps no file names, so photos are numbered in its order,
and `experiments.make_protocol --data_dir=DIR` draws a protocol of them.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError

from experiments.data.people import people_of
from tipim_jax.errors import UserError

SPLIT = "photos"


class IdentityFolder(tfds.core.GeneratorBasedBuilder):
    """The photos of an identity folder: image, person and the photo's path in the person's folder."""

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded. (To look for checksums, TFDS 4.9 needs a package that it does not install.)
    url_infos = None

    def __init__(self, *, root: str | None = None, **options: Any):
        self._root = root
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text
        return tfds.core.DatasetInfo(
            builder=self,
            description="Photos of people, a folder each.",
            features=tfds.features.FeaturesDict(
                {"image": tfds.features.Image(), "label": text(), "name": text()}
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, str]]]:
        if self._root is None:
            raise ValueError("give root, the identity folder, to build this dataset")
        root = Path(self._root)
        for person, photos in people_of(root).items():
            for photo in photos:
                example = {"image": str(root / person / photo), "label": person, "name": photo}
                yield f"{person}/{photo}", example


def pack(root: Path, folder: Path) -> Path:
    """Builds the dataset of an identity folder below `folder`; returns its own folder."""
    if "" in people_of(root):
        raise UserError(f"{root} holds no subfolder with photos; make one for each person")
    builder = IdentityFolder(root=str(root), data_dir=str(folder), file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_dir)


def unpack(prepared: Path, root: Path) -> None:
    """Writes the photos of a prepared dataset as an identity folder, all of them or none.

    Raises:
      UserError: it cannot be read without TensorFlow, or holds no photos labelled in words.
    """
    try:
        builder = tfds.builder_from_directory(str(prepared))
    except (ValueError, OSError, ParseError) as error:
        raise UserError(f"{prepared} is not a dataset that TFDS can read ({error})") from error
    features = dict(builder.info.features or {})
    words = isinstance(features.get("label"), tfds.features.Text)
    if not (words and isinstance(features.get("image"), tfds.features.Image)):
        raise UserError(f"{prepared} holds no photos labelled in words; pack an identity folder")
    undecoded = {"image": tfds.decode.SkipDecoding()}
    try:
        sources = [
            builder.as_data_source(split=split, decoders=undecoded) for split in builder.info.splits
        ]
    except NotImplementedError as error:
        raise UserError(
            f"{prepared} is in {builder.info.file_format.name}, which takes TensorFlow to read; "
            "prepare it with file_format=array_record"
        ) from error
    part = root.with_name(f".{root.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for source in sources:
        for example in source:
            person = part / example["label"].decode()
            person.mkdir(parents=True, exist_ok=True)
            number = len(list(person.iterdir())) + 1
            name = example.get("name", f"{person.name}_{number:04d}.jpg".encode()).decode()
            (person / name).parent.mkdir(parents=True, exist_ok=True)
            (person / name).write_bytes(example["image"])
    part.rename(root)
