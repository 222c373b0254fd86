"""How strong a mask is, and how it is found: the settings of a protection, and three presets."""

import math
from typing import Any, NamedTuple

from tipim_jax.errors import UserError


class Settings(NamedTuple):
    """What decides the mask of a face, together with the surrogates and the targets.

    Attributes:
      level: radius of the ball (`balls.lp`): root mean square of the per-pixel budget over the region of the
        face, pixel levels.
      epsilon: hard cap on the mask at every pixel, pixel levels; a lossy encoder adds changes of its own.
      goal: one of `GOALS`: only not be recognised ("hide"), or be taken for a target ("become").
      exponent: how far the budget follows the local contrast (`perceptual.budget`), 0 for uniform.
      steps: iterations.
      travel: length of all steps together in units of the budget, so that each is travel / steps.
      repel: weight of moving away from the source against moving towards the target, of "become".
      gamma: weight of the batch MMD; results then depend on the other faces of the batch.
      seed: of all randomness.
      batch_size: faces that a device attacks at once; None for as many as pay and fit.
      precision: what the surrogates compute in, one of `PRECISIONS`; None for float32 on CPUs and bfloat16
        elsewhere. Masks and steps are float32 in any case.
    """

    level: float
    epsilon: float
    goal: str = "hide"
    exponent: float = 0.5
    steps: int = 30
    travel: float = 4.5
    repel: float = 1.0
    gamma: float = 0.0
    seed: int = 0
    batch_size: int | None = None
    precision: str | None = None


PRECISIONS = ("float32", "bfloat16")
GOALS = ("hide", "become")
PRESETS = {
    "low": Settings(level=8.0, epsilon=44.0),
    "medium": Settings(level=11.0, epsilon=60.0),
    "high": Settings(level=13.5, epsilon=72.0),
}


def choose(strength: str, *, targeted: bool = False, **given: Any) -> Settings:
    """A preset, with what is given in place of its own.

    Args:
      strength: one of `PRESETS`.
      targeted: whether there are targets of the user, which faces become then by default.
      given: fields of `Settings`; None for the preset's own.

    Raises:
      UserError: they make no sense.
    """
    if strength not in PRESETS:
        raise UserError(f"strength is {strength!r}; choose one of {', '.join(PRESETS)}")
    if unknown := [name for name in given if name not in Settings._fields]:
        raise UserError(f"{unknown[0]} is no setting; there are {', '.join(Settings._fields)}")
    settings = PRESETS[strength]._replace(goal="become" if targeted else "hide")
    return check(
        settings._replace(**{name: value for name, value in given.items() if value is not None})
    )


def check(settings: Settings) -> Settings:
    """The settings, if they make sense.

    Raises:
      UserError: one sentence about the first that does not.
    """
    s = settings
    if not (math.isfinite(s.epsilon) and 1 <= s.epsilon <= 255):
        raise UserError(
            f"epsilon is {s.epsilon:g}; give pixel levels from 1 (the smallest change) to 255"
        )
    if s.goal not in GOALS:
        raise UserError(f"goal is {s.goal!r}; choose one of {', '.join(GOALS)}")
    if s.steps < 1:
        raise UserError(f"steps is {s.steps}; give at least 1")
    if not (math.isfinite(s.gamma) and s.gamma >= 0):
        raise UserError(f"gamma is {s.gamma:g}; give 0 or more")
    if s.batch_size is not None and s.batch_size < 1:
        raise UserError(f"batch_size is {s.batch_size}; give at least 1")
    if not 0 <= s.seed < 2**32:
        raise UserError(f"seed is {s.seed}; give a whole number from 0 to 4294967295")
    return s
