"""Compiles the attack of `tipim protect` for TPUs that are not here, and reads what the compiler says of it.

    python -m experiments.ahead --libtpu=libtpu/libtpu.so --workdir=results/ahead

`pip download --no-deps libtpu` fetches the compiler, a wheel that `unzip` opens; it needs no TPU. Nothing is
run: operations, bytes moved, memory, layouts and collectives are the compiler's own account of the scheduled
program for --topology. The first table is one pass of the surrogates on a batch, with the longer of the
times that its arithmetic and the bytes that XLA counts (fusions' operands and results, wherever they lie) take
at the chip's peak rates, and what follows for faces per second. The second is the convolutions of
`experiments.layouts`, the third the whole program, with its parameters on every device and shared out; it
takes minutes to compile. --topology=here compiles for the devices of this machine, whose rates are not
known, without libtpu. --quick does that for one face.
"""

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.launching import entry
from experiments.reporting import results
from experiments.speed import convolutions, machine, sharding
from ports import zoo
from tipim_jax.core import attack, batching, ensemble, search
from tipim_jax.core.geometry import CANVAS_SIZE
from tipim_jax.core.types import Recogniser
from tipim_jax.errors import UserError
from tipim_jax.photos import compilation, engine, presets, targets
from tipim_jax.photos.presets import Settings

_TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x2", "As JAX names slices; or `here`.")
_LIBTPU = flags.DEFINE_string("libtpu", None, "The file libtpu.so.")
_SURROGATES = flags.DEFINE_list("surrogates", list(zoo.SURROGATES), "Recognisers to attack.")
_STRENGTH = flags.DEFINE_enum("strength", "medium", list(presets.PRESETS), "Preset.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Faces of a device.", lower_bound=1)
_PASSES_ONLY = flags.DEFINE_bool("passes_only", False, "Not the whole program.")
_WORKDIR = flags.DEFINE_string("workdir", "results/ahead", "Where results go.")
_QUICK = flags.DEFINE_bool("quick", False, "The smallest honest run.")

HERE = "here"


class Chip(NamedTuple):
    """What its maker states: dense bfloat16 FLOP/s, bytes/s and bytes of its memory."""

    rate: float
    bandwidth: float
    memory: int


CHIPS = {
    "v5e": Chip(197e12, 819e9, 16 << 30),
    "v5p": Chip(459e12, 2765e9, 95 << 30),
    "v6e": Chip(918e12, 1640e9, 32 << 30),
}


def slice_of(topology: str, libtpu: str | None) -> Mesh:
    """The devices of a slice, none of which need exist.

    Raises:
      UserError: there is no libtpu, or it does not know the topology.
    """
    if topology == HERE:
        return Mesh(np.asarray(jax.local_devices()), (compilation.FACES,))
    if libtpu is None or not os.path.isfile(libtpu):
        raise UserError(
            "--libtpu names no file; run `pip download --no-deps libtpu`, unzip it, and give libtpu.so"
        )
    os.environ |= {
        "TPU_LIBRARY_PATH": libtpu,
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }
    from jax.experimental import topologies

    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    except (RuntimeError, jax.errors.JaxRuntimeError) as error:
        raise UserError(f"libtpu knows no topology {topology!r}; try v5e:2x2") from error
    return Mesh(np.asarray(described.devices).reshape(-1), (compilation.FACES,))


def compiled_pass(
    used: ensemble.Ensemble, mesh: Mesh, batch: int, *, back: bool
) -> jax.stages.Compiled:
    """A forward pass of `batch` faces on every device, with the pull-back to the canvas if asked for."""
    spread, everywhere = NamedSharding(mesh, P(compilation.FACES)), NamedSharding(mesh, P())
    images = jax.ShapeDtypeStruct((batch * mesh.size, CANVAS_SIZE, CANVAS_SIZE, 3), jnp.float32)
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), used.params)
    forward = jax.vmap(used.embed, (None, 0))
    cotangents = jax.eval_shape(forward, params, images)

    def both(params: Any, images: jax.Array, cotangents: jax.Array) -> jax.Array:
        return jax.vjp(partial(forward, params), images)[1](cotangents)[0]

    function: Callable[..., Any] = both if back else forward
    arguments = (params, images, cotangents)[: 3 if back else 2]
    shardings = (everywhere, spread, spread)[: len(arguments)]
    return jax.jit(function, in_shardings=shardings).lower(*arguments).compile()


class Cost(NamedTuple):
    """Of one face: floating-point operations, and bytes read and written."""

    flops: float
    bytes: float

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.flops - other.flops, self.bytes - other.bytes)

    def seconds(self, chip: Chip) -> float:
        """At the chip's peak rates, arithmetic and traffic overlapped."""
        return max(self.flops / chip.rate, self.bytes / chip.bandwidth)


def cost(program: jax.stages.Compiled, batch: int) -> Cost:
    """A face's share of a program without loops."""
    known = machine.known(program.cost_analysis())
    return Cost(known["flops"] / batch, known["bytes accessed"] / batch)


def passes(
    recognisers: Sequence[Recogniser], mesh: Mesh, batch: int, chip: Chip | None, settings: Settings
) -> list[dict[str, Any]]:
    """A row for each surrogate and one for all: a face's forward pass and pull-back."""
    rows = []
    groups = [[r] for r in recognisers] + ([list(recognisers)] if len(recognisers) > 1 else [])
    for group in groups:
        used = ensemble.combine(group)
        forward = cost(compiled_pass(used, mesh, batch, back=False), batch)
        back = cost(compiled_pass(used, mesh, batch, back=True), batch) - forward
        row: dict[str, Any] = {"surrogates": " + ".join(r.name for r in group)}
        for name, one in (("forward", forward), ("pull-back", back)):
            row |= {f"GFLOP {name}": one.flops / 1e9, f"MB {name}": one.bytes / 1e6}
            if chip:
                row[f"µs {name}"] = 1e6 * one.seconds(chip)
        if chip:
            views, count = search.VIEWS, len(targets.built_in().names)
            face = (settings.steps + views) * forward.seconds(chip)
            face += (settings.steps + views * count) * back.seconds(chip)
            row["faces/s by that"] = 1 / face
        rows.append(row)
    return rows


def estimated(shape: convolutions.Shape, mesh: Mesh, batch: int) -> dict[str, Any]:
    """A row: MB of one image, and microseconds by XLA's estimate, of a convolution in every layout."""
    spread, everywhere = NamedSharding(mesh, P(compilation.FACES)), NamedSharding(mesh, P())
    row: dict[str, Any] = {"convolution": shape.name}
    for layout, function in convolutions.variants(shape).items():
        images = (batch * mesh.size, shape.size, shape.size, shape.inputs)
        kernel = (shape.kernel, shape.kernel, shape.inputs // shape.groups, shape.outputs)
        swapped = layout == "NCHW"
        x, k = (
            jax.ShapeDtypeStruct([axes[i] for i in order] if swapped else axes, jnp.bfloat16)
            for axes, order in ((images, (0, 3, 1, 2)), (kernel, (3, 2, 0, 1)))
        )
        back = convolutions.with_pull_back(function)
        programs = {
            "forward": jax.jit(function, in_shardings=(spread, everywhere)).lower(x, k),
            "pull-back": jax.jit(back, in_shardings=(spread, everywhere, spread)).lower(
                x, k, jax.eval_shape(function, x, k)
            ),
        }
        for name, lowered in programs.items():
            known = machine.known(lowered.compile().cost_analysis())
            row[f"{layout} {name}, MB"] = known["bytes accessed"] / batch / 1e6
            row[f"{layout} {name}, µs"] = 1e6 * known.get("optimal_seconds", 0.0) / batch
    return row


def program(
    recognisers: Sequence[Recogniser],
    mesh: Mesh,
    settings: Settings,
    limit: int,
    *,
    shard_params: bool = False,
) -> tuple[int, jax.stages.Compiled]:
    """The whole attack: faces of a device, and its program."""
    names = [r.name for r in recognisers]
    weights = [engine.WEIGHTS.get(name, 1.0) for name in names]
    goals = targets.built_in().joined(names, weights)
    compiled = compilation.make_compiler(
        recognisers,
        weights,
        goals.shape,
        settings,
        mesh,
        composed=partial(compilation.compose, goal=settings.goal, chunk=attack.CHUNK),
        shard_params=shard_params,
    )
    made = compilation.compile_full_batch(compiled, settings, mesh, limit)
    return compilation.batch_size(made) // mesh.size, made


def account(batch: int, made: jax.stages.Compiled, limit: int) -> dict[str, Any]:
    """A row: what the compiler says of a program."""
    known = machine.known(made.memory_analysis())
    return {
        "faces of a device": batch,
        "arguments, MiB": round(known.argument_size_in_bytes / 2**20),
        "between, MiB": round(known.temp_size_in_bytes / 2**20),
        "share of what may be used": batching.memory(made) / limit,
        "collectives": sharding.collectives(made),
    }


def orders(made: jax.stages.Compiled) -> dict[str, int]:
    """Layouts that the compiler gave to the results of convolutions, minor to major, and how often."""
    found: dict[str, int] = {}
    for order in re.findall(
        r"= \w+\[[\d,]+\]\{([\d,]+)[^ ]* convolution\(", machine.known(made.as_text())
    ):
        found[order] = found.get(order, 0) + 1
    return found


def main(_: list[str]) -> None:
    jax.config.update("jax_platforms", "cpu")  # arrays that describe the program live here
    quick = _QUICK.value
    topology = HERE if quick else _TOPOLOGY.value
    mesh = slice_of(topology, _LIBTPU.value)
    chip = CHIPS.get(topology.partition(":")[0])
    settings = presets.PRESETS[_STRENGTH.value]._replace(precision="bfloat16")
    surrogates, batch = _SURROGATES.value, _BATCH_SIZE.value
    if quick:
        settings = settings._replace(steps=1, precision="float32")
        surrogates, batch = ["sface"], 1
    settings = settings._replace(batch_size=batch)
    recognisers = [zoo.load(name, jnp.dtype(settings.precision)) for name in surrogates]
    device = mesh.devices.flat[0]
    limit = int(
        compilation.MEMORY_SHARE * (chip.memory if chip else compilation.device_memory(device))
    )
    folder = results.prepare(
        _WORKDIR.value, {"topology": topology, "surrogates": surrogates, **settings._asdict()}
    )
    about = {"device": device.device_kind, "devices": mesh.size}
    rows = passes(recognisers, mesh, batch, chip, settings)
    print(results.save(folder, "passes", rows, **about))
    both = compiled_pass(ensemble.combine(recognisers), mesh, batch, back=True)
    print(f"layouts of convolutions, minor axis first: {orders(both)}")
    if not quick:
        shapes = [estimated(shape, mesh, batch) for shape in convolutions.SHAPES]
        print(results.save(folder, "layouts", shapes, **about))
    if _PASSES_ONLY.value:
        return
    whole = [
        {"parameters": name}
        | account(*program(recognisers, mesh, settings, limit, shard_params=shared), limit)
        for name, shared in (("on every device", False), ("shared out", True))[: 1 if quick else 2]
    ]
    print(results.save(folder, "programs", whole, **about))
    print(
        f"{batch} faces of a {device.device_kind}: {whole[0]['share of what may be used']:.1%} "
        f"of the memory, collectives: {whole[0]['collectives']}"
    )


if __name__ == "__main__":
    entry.run(main)
