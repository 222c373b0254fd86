"""What a job was asked to do, kept with its output: a restart must ask for the same."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tipim_jax.bulk import storage
from tipim_jax.bulk.storage import Folder
from tipim_jax.errors import UserError

FILE = "job.json"


def write(out: Folder, config: dict[str, Any]) -> None:
    """Keeps the config of a new job."""
    storage.write(out, FILE, _text(config).encode())


def check(out: Folder, config: dict[str, Any]) -> None:
    """Makes sure that a config is the job's, since results of two would be mixed otherwise.

    Raises:
      UserError: it is not, or there is none.
    """
    kept = json.loads(storage.read(out, FILE))
    here = json.loads(_text(config))
    changed = sorted(key for key in kept.keys() | here.keys() if kept.get(key) != here.get(key))
    if changed:
        raise UserError(
            f"{out.root} holds the results of a job with other {', '.join(changed)} "
            f"({FILE} has them); ask for the same, or choose another --out"
        )


def _text(config: dict[str, Any]) -> str:
    return json.dumps(config, indent=1, sort_keys=True, default=str) + "\n"


def fingerprints(names: Sequence[str], params: Sequence[Any]) -> dict[str, str]:
    """Recogniser -> SHA-256 of its parameters, names and shapes included."""
    return {name: _digest(tree) for name, tree in zip(names, params, strict=True)}


def _digest(tree: Any) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
