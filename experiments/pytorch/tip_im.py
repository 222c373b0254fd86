"""TIP-IM in plain PyTorch, written from the published description: what this project is timed against.

`released` has the structure of the released code: one image at a time, weights that require gradients, one
retained backward pass a target, one forward pass a candidate. `batched` is the same algorithm as well as
PyTorch can do it: frozen weights, a batch of images, candidates of all targets embedded together.
Images are [B,3,H,W] pixel levels. Needs the extra `parity`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tipim_jax.core import geometry
from tipim_jax.core.types import Recogniser

Embed = Callable[[Tensor], Tensor]
MOST_AT_ONCE = 64  # candidate images per forward pass of `batched`


def on_canvas(
    module: nn.Module,
    recogniser: Recogniser,
    mean: Sequence[float],
    scale: float,
    reverse_channels: bool,
) -> Embed:
    """The unit-norm embedding [B,D] of aligned canvases [B,3,160,160], framed as the port frames them."""
    down, across = geometry.frame(geometry.CANVAS_LANDMARKS, recogniser.landmarks, recogniser.size)
    shift = torch.tensor(mean, dtype=torch.float32)[:, None, None]
    rows, columns = geometry.as_slice(down), geometry.as_slice(across)
    tall, wide = torch.from_numpy(down).float(), torch.from_numpy(across).float()

    def embed(canvas: Tensor) -> Tensor:
        if rows is not None and columns is not None:
            crop = canvas[:, :, rows, columns]
        else:
            crop = torch.einsum("hH,bcHW,wW->bchw", tall, canvas, wide)
        if reverse_channels:
            crop = crop.flip(1)
        z = module((crop - shift) * scale)
        return z * torch.rsqrt((z * z).sum(1, keepdim=True) + 1e-5)

    return embed


def joined(embeds: Sequence[Embed], weights: Sequence[float]) -> Embed:
    """Several embeddings scaled by √weight and joined, as `ensemble.combine` does."""
    roots = [float(root) for root in np.sqrt(np.asarray(weights) / np.sum(weights))]
    return lambda canvas: torch.cat([r * f(canvas) for r, f in zip(roots, embeds)], 1)


def sample_views(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random maps as the released code draws them: affine [n,2,3], rotation [n,2,3]."""
    s_p, s_r = 0.01 + 0.09 * torch.rand(2, count, generator=generator)
    noise = torch.randn(count, 2, 3, generator=generator)
    affine = torch.eye(2, 3) + s_p[:, None, None] * noise
    theta = s_r * torch.randn(count, generator=generator)
    zero, cos, sin = torch.zeros(count), theta.cos(), theta.sin()
    rotation = torch.stack([torch.stack([cos, sin, zero], 1), torch.stack([-sin, cos, zero], 1)], 1)
    return affine, rotation


def _view(images: Tensor, views: torch.Generator | None) -> Tensor:
    """The images through random maps, both warps of the released code; as they are without `views`."""
    if views is None:
        return images
    for matrix in sample_views(len(images), views):
        images = _warp(images, matrix)
    return images


def _warp(image: Tensor, matrix: Tensor) -> Tensor:
    grid = F.affine_grid(matrix, list(image.shape), align_corners=False)
    sampled = F.grid_sample(image, grid, align_corners=False)
    inside = F.grid_sample(torch.ones_like(image), grid, align_corners=False)
    return sampled * (inside >= 0.9999)


class Ball(NamedTuple):
    """N steps of α within ε, pixel levels."""

    epsilon: float
    alpha: float
    steps: int


def released(
    embed: Embed, image: Tensor, targets: Tensor, ball: Ball, views: torch.Generator | None
) -> Tensor:
    """The published algorithm with the released structure, on one image [1,3,H,W] towards targets [T,D].

    The parameters behind `embed` require gradients; `views` draws the random maps, if any.
    """
    with torch.no_grad():
        source = embed(image)
    x, momentum = image.clone(), torch.zeros_like(image)
    for _ in range(ball.steps):
        x = x.detach().requires_grad_(True)
        z = embed(_view(x, views))
        proposals: list[tuple[Tensor, Tensor]] = []
        gains: list[Tensor] = []
        for target in targets:
            x.grad = None
            loss = ((z - target) ** 2).sum() - ((z - source) ** 2).sum()
            loss.backward(retain_graph=True)
            assert x.grad is not None
            moved = momentum + x.grad / x.grad.abs().mean()
            candidate = _project(x.detach() - ball.alpha * moved.sign(), image, ball.epsilon)
            with torch.no_grad():
                gains.append(_gain(embed(candidate), source, targets))
            proposals.append((candidate, moved))
        x, momentum = proposals[int(torch.cat(gains).argmax())]
    return x


def batched(
    embed: Embed, images: Tensor, targets: Tensor, ball: Ball, views: torch.Generator | None
) -> Tensor:
    """The same algorithm on a batch [B,3,H,W], weights frozen."""
    with torch.no_grad():
        source = embed(images)
    x, momentum = images.clone(), torch.zeros_like(images)
    count = len(targets)
    for _ in range(ball.steps):
        x = x.detach().requires_grad_(True)
        z = embed(_view(x, views))
        moved = []
        for target in targets:
            (gradient,) = torch.autograd.grad(z, x, 2 * (source - target), retain_graph=True)
            moved.append(momentum + gradient / gradient.abs().mean((1, 2, 3), keepdim=True))
        del z
        steps_taken = torch.stack(moved)
        with torch.no_grad():
            candidates = _project(x - ball.alpha * steps_taken.sign(), images, ball.epsilon)
            embedded = torch.cat(
                [embed(part) for part in candidates.flatten(0, 1).split(MOST_AT_ONCE)]
            )
            gains = _gain(embedded, source.repeat(count, 1), targets).view(count, -1)
            best, index = gains.argmax(0), torch.arange(len(images))
            x, momentum = candidates[best, index], steps_taken[best, index]
    return x


def _project(x: Tensor, real: Tensor, epsilon: float) -> Tensor:
    return torch.minimum(torch.maximum(x, real - epsilon), real + epsilon).clamp(0, 255)


def _gain(z: Tensor, source: Tensor, targets: Tensor) -> Tensor:
    """Eq. 7 with the maximum and squared distances: [n,D] -> [n]."""
    to_source = ((z - source) ** 2).sum(1)
    to_targets = ((z[:, None] - targets) ** 2).sum(2)
    return F.softplus((to_source[:, None] - to_targets).amax(1))
