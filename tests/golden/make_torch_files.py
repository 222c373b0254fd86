"""Writes torch_*.{pt,ckpt} and torch_files.npz: small checkpoints as PyTorch saves them.

Run with PyTorch installed: python tests/golden/make_torch_files.py
"""

from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, generator=generator)
    state = OrderedDict(
        float32=base,
        transposed=base.T,  # shares the storage, other strides
        window=base[1:3, 2:5],  # an offset into the storage
        float16=torch.randn(3, generator=generator).half(),
        bfloat16=torch.randn(2, 3, generator=generator).bfloat16(),
        float64=torch.randn(5, generator=generator).double(),
        int64=torch.arange(7),
        int32=torch.arange(3, dtype=torch.int32),
        uint8=torch.arange(4, dtype=torch.uint8),
        flags=torch.tensor([True, False, True]),
        scalar=torch.tensor(3.5),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.randn(2, generator=generator)),
    )
    torch.save(state, HERE / "torch_zip.pt")
    torch.save(state, HERE / "torch_legacy.pt", _use_new_zipfile_serialization=False)

    layer = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    checkpoint = dict(
        epoch=7,
        accuracy=np.float64(0.5),
        args=Namespace(lr=0.1),
        optimizer=optimiser.state_dict(),
        net_state_dict={f"module.{name}": tensor for name, tensor in state.items()},
    )
    torch.save(checkpoint, HERE / "torch_data_parallel.ckpt")
    torch.save(
        checkpoint, HERE / "torch_data_parallel_legacy.ckpt", _use_new_zipfile_serialization=False
    )
    # bfloat16 is exact in float32, which npz can hold
    arrays = {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
        for name, tensor in state.items()
    }
    np.savez(HERE / "torch_files.npz", **arrays)


if __name__ == "__main__":
    main()
