"""The options of every command that makes masks, each declared once, and the settings they amount to."""

import argparse
from collections.abc import Sequence

from ports import zoo
from tipim_jax.core.types import PyTree
from tipim_jax.photos import presets, targets
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.formats import check_quality

# Settings that replace the preset's
GIVEN = ("goal", "epsilon", "steps", "gamma", "seed", "batch_size", "precision")


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a command."""
    add = parser.add_argument
    add("--strength", choices=presets.PRESETS, default="medium")
    add("--goal", choices=presets.GOALS, help="hide, or become a target (become with --targets)")
    add(
        "--epsilon",
        type=float,
        help="hard cap on the mask at every pixel, in levels of 255; lossy formats add changes of their own, "
        "and the proof shows the largest in the saved file",
    )
    add("--steps", type=int, help="iterations (30)")
    add("--gamma", type=float, help="weight of the batch MMD, which makes masks more natural (0)")
    add("--targets", metavar="DIR_OR_NPZ", help="photos you may use as targets, or made targets")
    add("--surrogates", metavar="NAME,…", help=f"made on these ({','.join(zoo.SURROGATES)})")
    add("--seed", type=int, help="of all randomness (0)")
    add("--batch_size", type=int, help="faces attacked at once (as many as pay and fit)")
    add("--precision", choices=presets.PRECISIONS, help="of the surrogates (float32 on CPUs)")
    add("--format", help="jpg, png, webp, avif, heic, tiff or bmp; each photo's own by default")
    add("--quality", type=int, default=95, help="of lossy formats, 1 to 100 (95)")
    add("--keep_metadata", action="store_true", help="keep EXIF with its location, XMP, comments")


def settings_from(options: argparse.Namespace) -> presets.Settings:
    """The preset of the options, with what they say otherwise.

    Raises:
      UserError: they make no sense together.
    """
    given = {name: getattr(options, name) for name in GIVEN}
    return presets.choose(options.strength, targeted=options.targets is not None, **given)


def encoding_from(options: argparse.Namespace) -> Encoding:
    """How the options want photos encoded.

    Raises:
      UserError: the quality is none.
    """
    return Encoding(options.format, check_quality(options.quality), options.keep_metadata)


def surrogates_from(options: argparse.Namespace) -> list[str]:
    """The recognisers that masks are made on."""
    return names(options.surrogates) or list(zoo.SURROGATES)


def targets_from(
    options: argparse.Namespace, detector: PyTree, surrogates: Sequence[str]
) -> targets.Targets:
    """The targets of the options, the built-in ones by default (`targets.choose`)."""
    return targets.choose(options.targets, detector, surrogates)


def names(text: str | None) -> list[str]:
    """The names of a comma-separated list, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(","))) if text else []
