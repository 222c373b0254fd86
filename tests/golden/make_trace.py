"""Writes trace.npz: TIP-IM by its written definition, in NumPy float64 alone, on a tiny network.

    python tests/golden/make_trace.py

Independent of JAX and of tipim_jax: the network's backward pass, the kernel's gradient and the random
maps (a dense matrix and its transpose) are written out by hand. Arrays are NCHW and named as in the
research trace, `<case>/<image>/<array>`:

    choice [N], gains [N,T], losses [N,T]   the target taken, what the search measured, L of Eq. 2 + 4
    x, momentum [S,C,H,W]                   after the iterations `snapshots` [S]
    affine [N,1,2,3], theta [N,1,1]         the random maps, in the diverse cases

Two of the six cases have the batch MMD of a batch of one image, as one photo at a time has.
"""

from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

SHAPE = (3, 12, 14)  # C, H, W; not square, so that no axis can stand in for another
IMAGES, TARGETS, STEPS, SIZE = 2, 4, 6, 8
SNAPSHOTS = (1, STEPS)
EPSILON = 12.0
STEP = 1.5 * EPSILON / STEPS
SIGMAS = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 5, 10, 15, 20, 25, 30, 35, 100, 1e3, 1e4, 1e5, 1e6]


class Case(NamedTuple):
    norm: str
    reduce: str
    gamma: float
    diverse: bool


CASES = {
    "linf_max": Case("linf", "max", 0.0, False),
    "l2_max": Case("l2", "max", 0.0, False),
    "linf_sum": Case("linf", "sum", 0.0, False),
    "linf_max_mmd": Case("linf", "max", 0.1, False),
    "l2_max_diverse": Case("l2", "max", 0.0, True),
    "linf_max_diverse_mmd": Case("linf", "max", 0.05, True),
}


def conv(x, w):
    """Stride 2, padding 1, 3×3: [c,h,w] -> [o,⌈h/2⌉,⌈w/2⌉]."""
    height, width = -(-x.shape[1] // 2), -(-x.shape[2] // 2)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(w), height, width))
    for o, r, c in np.ndindex(out.shape):
        out[o, r, c] = np.sum(w[o] * padded[:, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3])
    return out


def conv_backward(shape, w, grad):
    """The gradient of `conv` in its input, of the given shape."""
    padded = np.zeros((shape[0], shape[1] + 2, shape[2] + 2))
    for o, r, c in np.ndindex(grad.shape):
        padded[:, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3] += grad[o, r, c] * w[o]
    return padded[:, 1:-1, 1:-1]


def embed(net, image):
    """The embedding [D] and the function that pulls a cotangent [D] back to the image."""
    x = (image - 127.5) / 128
    before1 = conv(x, net["c1"])
    slope1 = np.where(before1 >= 0, 1, net["a1"][:, None, None])
    after1 = before1 * slope1
    before2 = conv(after1, net["c2"])
    slope2 = np.where(before2 >= 0, 1, net["a2"][:, None, None])
    after2 = before2 * slope2
    z = net["w"] @ after2.ravel() + net["b"]
    norm = np.sqrt(np.sum(z**2) + 1e-5)

    def backward(cotangent):
        grad = cotangent / norm - z * np.sum(cotangent * z) / norm**3
        grad = (net["w"].T @ grad).reshape(after2.shape) * slope2
        grad = conv_backward(after1.shape, net["c2"], grad) * slope1
        return conv_backward(x.shape, net["c1"], grad) / 128

    return z / norm, backward


def sampling(matrix):
    """[HW,HW]: bilinear sampling through a map of [−1, 1]², zero where the outside is touched."""
    _, height, width = SHAPE
    dense = np.zeros((height * width, height * width))
    for r, c in product(range(height), range(width)):
        u, v = matrix @ [(2 * c + 1) / width - 1, (2 * r + 1) / height - 1, 1]
        x, y = ((u + 1) * width - 1) / 2, ((v + 1) * height - 1) / 2
        left, top = int(np.floor(x)), int(np.floor(y))
        for i, j in product((top, top + 1), (left, left + 1)):
            if 0 <= i < height and 0 <= j < width:
                dense[r * width + c, i * width + j] = (1 - abs(x - j)) * (1 - abs(y - i))
    return dense * (dense.sum(axis=1, keepdims=True) >= 0.9999)


def view(affine, theta):
    """[HW,HW]: the affine map, then the rotation of its result."""
    rotation = [[np.cos(theta), np.sin(theta), 0], [-np.sin(theta), np.cos(theta), 0]]
    return sampling(np.array(rotation)) @ sampling(affine)


def draw(rng):
    s_p, s_r = rng.uniform(0.01, 0.1, 2)
    return np.eye(2, 3) + rng.normal(0, s_p, (2, 3)), rng.normal(0, s_r)


def mmd(x, y):
    """The MMD of batches of one photo and its gradient in x: 2 K(0) − 2 K(x − y)."""
    squared = np.sum((x - y) ** 2)
    value, grad = 0.0, np.zeros_like(x)
    for sigma in SIGMAS:
        kernel = np.exp(-squared / (2 * sigma))
        value += 2 - 2 * kernel
        grad += 2 * kernel * (x - y) / sigma
    return value, grad


def attack(net, real, targets, case, maps):
    """One run of one photo: the records of every iteration."""
    reduce = {"max": np.max, "sum": np.sum}[case.reduce]
    f_real, _ = embed(net, real)
    x, momentum, records = real, np.zeros(SHAPE), []
    for affine, theta in maps:
        mixing = view(affine, theta) if case.diverse else np.eye(x[0].size)
        f, backward = embed(net, (x.reshape(3, -1) @ mixing.T).reshape(SHAPE))
        penalty, penalty_grad = mmd(x, real) if case.gamma else (0.0, 0.0)
        losses, gains, moments, candidates = [], [], [], []
        for target in targets:
            loss = np.mean((f - target) ** 2) - np.mean((f - f_real) ** 2)
            grad = backward(2 * (f - target) / SIZE - 2 * (f - f_real) / SIZE)
            grad = (grad.reshape(3, -1) @ mixing).reshape(SHAPE) + case.gamma * penalty_grad
            g = momentum + grad / np.mean(np.abs(grad))
            way = np.sign(g) if case.norm == "linf" else g / np.sqrt(np.sum(g**2)) * np.sqrt(g.size)
            candidate = np.clip(x - STEP * way, real - EPSILON, real + EPSILON).clip(0, 255)
            seen, _ = embed(net, candidate)
            to_real = np.linalg.norm(seen - f_real)
            to_targets = np.array([np.linalg.norm(seen - t) for t in targets])
            losses.append(loss + case.gamma * penalty)
            gains.append(np.log(1 + reduce(np.exp(to_real - to_targets))))
            moments.append(g)
            candidates.append(candidate)
        choice = int(np.argmax(gains))
        x, momentum = candidates[choice], moments[choice]
        decisive(gains, momentum if case.norm == "linf" else None)
        records.append((choice, gains, losses, x, momentum))
    return [np.array(column) for column in zip(*records)]


def decisive(gains, momentum):
    """Nothing that is discrete may hang on the last digits of a float64."""
    first, second = np.sort(gains)[[-1, -2]]
    assert first - second > 1e-6, "two targets tie"
    if momentum is not None:
        assert np.abs(momentum[momentum != 0]).min() > 1e-7, "a sign is undecided"


def main():
    rng = np.random.default_rng(3)
    # Rounded, so that the file stays small; images of whole levels.
    normal = lambda *shape: np.round(rng.normal(size=shape), 2)  # noqa: E731
    net = {
        "c1": normal(4, 3, 3, 3) * 0.4,
        "a1": np.round(rng.uniform(0.1, 0.4, 4), 2),
        "c2": normal(8, 4, 3, 3) * 0.3,
        "a2": np.round(rng.uniform(0.1, 0.4, 8), 2),
        "w": normal(SIZE, 8 * 3 * 4) * 0.2,
        "b": normal(SIZE) * 0.1,
    }
    images = np.floor(rng.uniform(0, 256, (IMAGES, *SHAPE)))
    targets = np.floor(rng.uniform(0, 256, (TARGETS, *SHAPE)))
    embeddings = np.array([embed(net, target)[0] for target in targets])
    arrays = {f"net_{name}": value for name, value in net.items()}
    arrays |= {"images": images, "targets": targets, "target_embeddings": embeddings}
    arrays["snapshots"] = np.array(SNAPSHOTS)
    for (name, case), i in product(CASES.items(), range(IMAGES)):
        maps = [draw(rng) for _ in range(STEPS)]
        choice, gains, losses, x, momentum = attack(net, images[i], embeddings, case, maps)
        kept = np.array(SNAPSHOTS) - 1
        columns = {"choice": choice, "gains": gains, "losses": losses}
        columns |= {"x": x[kept], "momentum": momentum[kept]}
        if case.diverse:
            columns["affine"] = np.array([[affine] for affine, _ in maps])
            columns["theta"] = np.array([[[theta]] for _, theta in maps])
        arrays |= {f"{name}/{i}/{key}": value for key, value in columns.items()}
        print(name, i, choice)
    np.savez_compressed(Path(__file__).with_name("trace.npz"), **arrays)


if __name__ == "__main__":
    main()
