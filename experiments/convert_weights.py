"""Converts a PyTorch, safetensors or npz checkpoint into a registered model (as `tipim models add`).

    python -m experiments.convert_weights --checkpoint=model.ckpt --arch=auto --name=mymodel \\
        --licence="research use" --workdir=models

--workdir is the folder of models; `export TIPIM_MODELS=models` makes them known by name. --quick writes a
checkpoint of random weights and converts that.
"""

from pathlib import Path

from absl import flags

from experiments import entry
from ports import random_weights, register
from tipim_jax.errors import UserError

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The file to convert.")
_ARCH = flags.DEFINE_string("arch", "auto", "Network, or auto to recognise it.")
_NAME = flags.DEFINE_string("name", None, "What the model is called; the file's stem by default.")
_LICENCE = flags.DEFINE_string("licence", None, "Of the weights, in your words.")
_WORKDIR = flags.DEFINE_string("workdir", "results/models", "Folder of models.")
_QUICK = flags.DEFINE_bool("quick", False, "Convert random weights of a small network.")


def main(_: list[str]) -> None:
    workdir = Path(_WORKDIR.value)
    workdir.mkdir(parents=True, exist_ok=True)
    if _QUICK.value:
        checkpoint = workdir / "random_weights.npz"
        random_weights.checkpoint(checkpoint, "mobilefacenet_112x96_128")
    elif _CHECKPOINT.value:
        checkpoint = Path(_CHECKPOINT.value)
    else:
        raise UserError("give --checkpoint, or --quick")
    done = register.register(
        checkpoint,
        _NAME.value or checkpoint.stem,
        arch=_ARCH.value,
        licence=_LICENCE.value,
        root=workdir,
    )
    print(register.described(done))


if __name__ == "__main__":
    entry.run(main)
