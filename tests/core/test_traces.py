"""The core is the published algorithm: recorded runs of it are reproduced step by step.

Two recordings: `tests/golden/trace.npz`, written by NumPy from the definition, and, where the research
data are, the trace of the authors' PyTorch code.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tipim_jax.core import attack, updates
from tipim_jax.core.diversity import AffineView, Diversity, none, released_affine
from tipim_jax.core.gains import Gain
from tipim_jax.core.objectives import Objective
from tipim_jax.core.types import l2_normalise

CASES = [
    "linf_max",
    "l2_max",
    "linf_sum",
    "linf_max_mmd",
    "l2_max_diverse",
    "linf_max_diverse_mmd",
]
GAMMAS = {
    "own": {"linf_max_mmd": 0.1, "linf_max_diverse_mmd": 0.05},
    "published": {"linf_max_mmd": 2.0, "linf_max_diverse_mmd": 1.0},
}


def network(params, image):
    """The network of the traces: [H,W,3] -> [D]."""
    x = ((image - 127.5) / 128).transpose(2, 0, 1)
    for layer in "12":
        x = conv(x, params["c" + layer])
        x = jnp.where(x >= 0, x, x * params["a" + layer][:, None, None])
    return l2_normalise(params["w"] @ x.reshape(-1) + params["b"])


def conv(x, bands):
    """Stride 2, padding 1 by one matrix product: XLA's float64 convolutions are slow on the CPU."""
    height = -(-x.shape[1] // 2)
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
    rows = jnp.stack([padded[:, i : i + 2 * height : 2] for i in range(3)])
    return jnp.einsum("tcwov,tchw->ohv", bands, rows)


def bands(w, width):
    """The kernel [O,C,3,3] spread over a row: [3,C,width,O,⌈width/2⌉]."""
    half = -(-width // 2)
    spread = np.zeros((3, w.shape[1], width + 2, len(w), half))
    for v in range(half):
        spread[:, :, 2 * v : 2 * v + 3, :, v] = w.transpose(2, 1, 3, 0)
    return spread[:, :, 1:-1]


def replay(trace, case, keys) -> Diversity:
    """The recorded maps, found by the key of the view that they were drawn for."""
    if "diverse" not in case:
        return none()
    steps = len(trace[f"{case}/0/theta"])
    view_key = lambda key, step: jax.random.fold_in(jax.random.fold_in(key, step), 0)  # noqa: E731
    over_steps = jax.vmap(view_key, (None, 0))
    table = jax.random.key_data(jax.vmap(over_steps, (0, None))(keys, jnp.arange(steps)))
    affine = np.stack([trace[f"{case}/{i}/affine"][:, 0] for i in range(len(keys))])
    theta = np.stack([trace[f"{case}/{i}/theta"].reshape(-1) for i in range(len(keys))])

    def sample(key):
        found = jnp.all(table == jax.random.key_data(key), axis=-1)
        pick = lambda rows: jnp.asarray(rows)[jnp.nonzero(found, size=1)]  # noqa: E731
        known = jnp.where(jnp.sum(found) == 1, 1.0, jnp.nan)
        return AffineView(pick(affine)[0] * known, pick(theta)[0] * known)

    return Diversity(sample, released_affine().apply)


def watch(step):
    return {
        "choice": step.choice.target,
        "gains": step.choice.gains,
        "losses": step.losses,
        "x": step.after.image,
        "momentum": step.after.updates["momentum"].trace,
    }


@pytest.fixture(scope="module", params=["own", "published"])
def trace(request):
    if request.param == "own":
        path, snapshots = Path(__file__).parents[1] / "golden" / "trace.npz", None
    else:
        data = request.getfixturevalue("research_data")
        path, snapshots = data / "traces" / "tip_im_trace_a.npz", np.array([1, 5, 10, 20])
    with np.load(path) as file:
        arrays = dict(file)
    arrays.setdefault("snapshots", snapshots)
    return request.param, arrays


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("x64", "quick_compile")
def test_recorded_run_is_reproduced(trace, case):
    source, arrays = trace
    params = {k[4:]: v for k, v in arrays.items() if k.startswith("net_")}
    width = arrays["images"].shape[-1]
    params |= {"c1": bands(params["c1"], width), "c2": bands(params["c2"], -(-width // 2))}
    images = jnp.asarray(arrays["images"].transpose(0, 2, 3, 1))
    count, steps = len(images), len(arrays[f"{case}/0/choice"])
    gamma = GAMMAS[source].get(case, 0.0)
    keys = jax.random.split(jax.random.key(0), count)
    method = attack.tip_im(
        network,
        updates.mi_fgsm(
            1.5 / steps, direction=updates.l2_direction() if case.startswith("l2") else None
        ),
        objective=Objective(mean=True),
        gain=Gain("sum" if "sum" in case else "max", squared=False),
        diversity=replay(arrays, case, keys),
    )
    targets = jnp.asarray(arrays["target_embeddings"])
    # The MMD was recorded one photo at a time; everything else is run as one batch.
    batches = [[i] for i in range(count)] if gamma else [list(range(count))]
    for batch in batches:
        rows = jnp.array(batch)
        problem = attack.prepare(network, params, images[rows], targets, 12.0)
        state = attack.initial_state(method, problem)
        _, seen = attack.run(
            method, params, keys[rows], state, problem, num_steps=steps, gamma=gamma, record=watch
        )
        for place, i in enumerate(batch):
            ours = {name: np.asarray(value[:, place]) for name, value in seen.items()}
            for name in ("x", "momentum"):
                ours[name] = ours[name][arrays["snapshots"] - 1].transpose(0, 3, 1, 2)
            np.testing.assert_array_equal(ours["choice"], arrays[f"{case}/{i}/choice"])
            for name in ("gains", "losses", "x", "momentum"):
                np.testing.assert_allclose(
                    ours[name], arrays[f"{case}/{i}/{name}"], rtol=0, atol=1e-9, err_msg=name
                )
