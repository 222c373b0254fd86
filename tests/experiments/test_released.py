"""The reference that ours is timed against is the released algorithm: recorded runs are reproduced."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.speed import released
from tipim_jax.core.types import l2_normalise


def network(params, image):
    """The network of the traces: [H,W,3] -> [D]."""
    x = ((image - 127.5) / 128).transpose(2, 0, 1)[None]
    for layer in "12":
        x = jax.lax.conv_general_dilated(x, params[f"net_c{layer}"], (2, 2), ((1, 1), (1, 1)))
        x = jnp.where(x >= 0, x, x * params[f"net_a{layer}"][:, None, None])
    return l2_normalise(params["net_w"] @ x.reshape(-1) + params["net_b"])


@pytest.mark.parametrize("source", ["own", "published"])
def test_recorded_runs_are_reproduced(source, request):
    path = Path(__file__).parents[1] / "golden" / "trace.npz"
    if source == "published":
        path = request.getfixturevalue("research_data") / "traces" / "tip_im_trace_a.npz"
    with np.load(path) as file:
        trace = dict(file)
    snapshots = trace.get("snapshots", np.array([1, 5, 10, 20]))
    with jax.enable_x64(True):
        params = {k: jnp.asarray(v) for k, v in trace.items() if k.startswith("net_")}
        for i, image in enumerate(trace["images"].transpose(0, 2, 3, 1)):
            recorded = {
                name: trace[f"linf_max/{i}/{name}"]
                for name in ("choice", "gains", "losses", "x", "momentum")
            }
            steps = len(recorded["choice"])
            made = list(
                released.iterations(
                    network,
                    params,
                    jnp.asarray(image),
                    jnp.asarray(trace["target_embeddings"]),
                    epsilon=12.0,
                    alpha=1.5 * 12.0 / steps,
                    steps=steps,
                    key=jax.random.key(0),
                )
            )
            assert [one.choice for one in made] == recorded["choice"].tolist()
            for name in ("gains", "losses"):
                ours = np.stack([getattr(one, name) for one in made])
                np.testing.assert_allclose(ours, recorded[name], rtol=0, atol=1e-9, err_msg=name)
            for ours, name in (("image", "x"), ("momentum", "momentum")):
                kept = [getattr(made[step - 1], ours).transpose(2, 0, 1) for step in snapshots]
                np.testing.assert_allclose(np.stack(kept), recorded[name], rtol=0, atol=1e-9)
