"""tipim_jax: adversarial identity masks that keep photos out of face recognition, in JAX.

For photos: `protect`, `Protector`, `verify`, `check`, `detect`. For research: `tip_im` composes an attack
of the parts in `tipim_jax.core`, `prepare` and `run` apply it to a batch, `load_recogniser` gives networks.
Nothing is imported before it is used.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from tipim_jax.errors import UserError

if TYPE_CHECKING:
    from ports.zoo import load as load_recogniser
    from tipim_jax.api import Protected, Protector, detect, protect
    from tipim_jax.core.attack import initial_state, prepare, run, tip_im
    from tipim_jax.core.types import Attack, Problem, Recogniser
    from tipim_jax.photos.check import check
    from tipim_jax.photos.verify import verify

__all__ = [
    "Attack",
    "Problem",
    "Protected",
    "Protector",
    "Recogniser",
    "UserError",
    "__version__",
    "check",
    "detect",
    "initial_state",
    "load_recogniser",
    "prepare",
    "protect",
    "run",
    "tip_im",
    "verify",
]
__version__ = version("tipim-jax")

_HOMES = {
    "Attack": "tipim_jax.core.types",
    "Problem": "tipim_jax.core.types",
    "Protected": "tipim_jax.api",
    "Protector": "tipim_jax.api",
    "Recogniser": "tipim_jax.core.types",
    "check": "tipim_jax.photos.check",
    "detect": "tipim_jax.api",
    "initial_state": "tipim_jax.core.attack",
    "load_recogniser": "ports.zoo:load",
    "prepare": "tipim_jax.core.attack",
    "protect": "tipim_jax.api",
    "run": "tipim_jax.core.attack",
    "tip_im": "tipim_jax.core.attack",
    "verify": "tipim_jax.photos.verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tipim_jax' has no attribute {name!r}")
    module, _, own = _HOMES[name].partition(":")
    globals()[name] = value = getattr(import_module(module), own or name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
