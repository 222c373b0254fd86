"""Draws a protocol from a folder of photos and fixes it in a manifest, by file name and SHA-256.

    python -m experiments.make_protocol --data_dir=LFW --out=protocol.json --seed=0
    python -m experiments.make_protocol --data_dir=LFW --base=protocol.json --out=with_hashes.json
    python -m experiments.make_protocol --data_dir=CelebA-HQ --kind=verification --num_probes=1000 \\
        --target_pairs=005869.jpg:008793.jpg,085807.jpg:047073.jpg,116481.jpg:055622.jpg --out=celeba_hq.json

`identification` is the paper's: 500 probes and 10 targets of people with several photos, the others of each
in the gallery, and 500 strangers. `verification` is that of AMT-GAN: photos to protect, each with another of
the same person where there is one, and per target a photo to aim at and one to test with; in a folder
without people the targets are given by name. --base takes the split from a manifest and adds hashes.
--pack also stores the photos as a TFDS dataset; a dataset that TFDS prepared as ArrayRecord is also taken as
--data_dir. --quick makes both kinds of the demo photos.

A person's photos may lie in folders of their own. Of CFP (`Data/Images/001/frontal/01.jpg`, `…/profile/…`)
--data_dir is `Data/Images`; frontal and profile photos are drawn alike, and its pairs (`Protocol`) are not
read. Its 500 people suffice for --num_probes=300 --num_distractors=190.

A gallery like MegFace's is one more folder of the tree, or a link there, made after the draw with
--num_distractors=0: write `"distractors": ["MegFace"]` into the manifest and give it as --base. Every photo
below that folder is then a stranger's; a list may as well name a folder for each person.
"""

from pathlib import Path

from absl import flags

from experiments.data import dataset, identity_folder, protocols
from experiments.data.people import people_of
from experiments.launching import launch
from tipim_jax.errors import UserError

_OUT = flags.DEFINE_string("out", None, "The manifest to write.")
_KIND = flags.DEFINE_enum("kind", "identification", ["identification", "verification"], "Protocol.")
_BASE = flags.DEFINE_string("base", None, "Manifest to take the split from.")
_TARGETS = flags.DEFINE_integer("num_targets", None, "Target people; 10, or 4 for verification.")
_DISTRACTORS = flags.DEFINE_integer("num_distractors", 500, "Strangers in the gallery.")
_PAIRS = flags.DEFINE_list("target_pairs", [], "AIM:TEST photos of each target of a flat folder.")
_PACK = flags.DEFINE_string("pack", None, "Also pack the photos as ArrayRecord below this folder.")
flags.set_default(launch.NUM_PROBES, 500)  # people, or photos, to protect


def main(_: list[str]) -> None:
    if launch.QUICK.value:
        quick(Path(launch.WORKDIR.value or "results/make_protocol"))
        return
    if not (launch.DATA_DIR.value and _OUT.value):
        raise UserError("give --data_dir and --out, or --quick")
    verify = _KIND.value == "verification"
    probes, targets = launch.NUM_PROBES.value, _TARGETS.value or (4 if verify else 10)
    seed = launch.SEED.value
    try:
        root = dataset.photo_folder(Path(launch.DATA_DIR.value), Path(launch.CACHE.value))
        people = people_of(root)
        if _BASE.value:
            made = protocols.based(Path(_BASE.value), people)
        elif verify:
            made = protocols.verification(people, probes, targets, _PAIRS.value, seed)
        else:
            made = protocols.identification(people, probes, targets, _DISTRACTORS.value, seed)
        protocols.write(made, root, Path(_OUT.value))
        if _PACK.value:
            print(f"packed {identity_folder.pack(root, Path(_PACK.value))}")
    except OSError as error:
        raise UserError(str(error)) from error


def quick(workdir: Path) -> None:
    """Both manifests of the demo photos, and the photos packed."""
    root = dataset.demo_people(workdir / "photos")
    people, packed = people_of(root), identity_folder.pack(root, workdir / "packed")
    drawn = protocols.identification(people, 1, 1, 3, 0)
    protocols.write(drawn, root, workdir / "identification.json")
    pairs = protocols.verification(people, 2, 1, [], 0)
    protocols.write(pairs, root, workdir / "verification.json")
    unpacked = dataset.photo_folder(packed, workdir)
    read = dataset.read_protocol(workdir / "identification.json", unpacked)
    print(f"read back {len(read.gallery.paths)} gallery photos from ArrayRecord")


if __name__ == "__main__":
    launch.run(main)
