"""One mask per person, made on some photos of that person and tested on another (OPOM).

The photos that the gallery holds of a person are those that the mask is made on, --photos at the most; the
probe is the one that has never been seen. ε = 8, away from the person, as published (Zhong and Deng, 2022: 10
photos each of 500 people and 10,000 strangers). Beside it unprotected probes.

The canvas that is attacked is 128 plus the mask; its embedding is that of all of the person's photos with
the mask on, each scaled by the root of its weight and joined end to end. Squared distances are then the mean
over the photos, and every method of `experiments.protection.methods` takes it like a single photo.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from experiments.judging import ranking
from experiments.protection import cells, methods, runs, specs
from experiments.protection.methods import Method, Setting
from experiments.protection.runs import Run
from experiments.reporting import report, results, tables
from tipim_jax.core import batching, ensemble
from tipim_jax.core.types import Embed, PyTree
from tipim_jax.errors import UserError

_GREY = 128


@cache
def joined(embed: Embed) -> Embed:
    """((params, photos [K,H,W,3], weights [K]), grey plus mask [H,W,3]) -> [K·D], unit norm."""

    def all_photos(params: PyTree, canvas: jax.Array) -> jax.Array:
        network, photos, weights = params
        masked = jnp.clip(photos + (canvas - _GREY), 0, 255)
        embedded = jax.vmap(embed, (None, 0))(network, masked)
        return (jnp.sqrt(weights)[:, None] * embedded).reshape(-1)

    return all_photos


def mask(
    method: Method,
    combined: ensemble.Ensemble,
    photos: np.ndarray,
    count: int,
    targets: np.ndarray,
    seed: int,
) -> np.ndarray:
    """The mask [H,W,3] int16 of one person, made on n ≤ `count` photos [n,H,W,3] uint8: one compiled shape.

    `method` is composed with `joined(combined.embed)`, without random views, which would part mask and face;
    targets [T,D] are joined for the ensemble.
    """
    padded, real = batching.pad(photos, count)
    weights = real.astype(np.float32) / real.sum()
    every = np.sqrt(weights)[:, None] * targets[:, None]  # [T,K,D]
    stack = ensemble.Ensemble(
        joined(combined.embed),
        (combined.params, jnp.asarray(padded, jnp.float32), jnp.asarray(weights)),
    )
    grey = np.full((1, *photos.shape[1:]), _GREY, np.uint8)
    keys = methods.keys(photos[:1], seed)
    made = methods.protect(method, stack, grey, every.reshape(len(targets), -1), keys, 1)
    return made[0].astype(np.int16) - _GREY


def worn(canvases: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Photos [n,H,W,3] uint8 with the mask on."""
    return np.clip(canvases.astype(np.int16) + mask, 0, 255).astype(np.uint8)


def study(run: Run, attack: str, photos: int, epsilon: float) -> str:
    """Makes and measures a mask per person, on so many photos at the most; returns its main figure."""
    if run.quick:
        attack, photos = "sface/mim_untargeted", 1
    setting = Setting(epsilon=epsilon, alpha=1.0, diversity="none")
    setting = setting._replace(steps=runs.QUICK_STEPS) if run.quick else setting
    (name,) = run.named([attack], setting).values()
    if name.batch or name.probes:
        raise UserError(f"--attack={attack}: leave out :batch and @PROBES (--num_probes)")
    bench = ranking.bench(run.protocol, run.models, run.cache)
    (clean,) = run.named(["unprotected"]).values()
    before = runs.measured(run, bench, clean)
    combined = specs.combined(name.surrogates)
    method = methods.compose(name.method, joined(combined.embed), name.setting)
    targets = runs.subjects_of(run, bench, name)[1].joined(name.surrogates)
    targets = targets[:1] if method.single else targets
    people = bench.probes.identities[before.row.probes]

    def make(person: str) -> np.ndarray:
        own = bench.gallery.canvases[bench.gallery.identities == person][:photos]
        return mask(method, combined, own, photos, targets, run.seed)

    masks = cells.in_parts(
        run.workdir,
        f"{name.folder}/masks@{len(people)}",
        len(people),
        run.batch_size,
        lambda indices: {"masks": np.stack([make(people[i]) for i in indices])},
    )["masks"]
    protected = np.stack([worn(c[None], m) for c, m in zip(before.row.clean, masks)])
    after = runs.assessed(run, bench, before.row._replace(name=name, canvases=protected))
    lines = [*tables.lines(before, run.seed), *tables.lines(after, run.seed)]
    results.save(run.workdir, "opom", lines, missing=bench.missing)
    table = tables.pivoted(lines, ranking.UT)
    print(results.save(run.workdir, "rank-UT", table))
    title = f"One mask per person, of up to {photos} photos, on a photo it has not seen"
    parts: list[report.Part] = [
        report.Table(title, table, "Rank-1-UT [95 %] / Rank-5-UT, percent."),
        tables.rank_1(lines),
    ]
    report.write(run.workdir, "OPOM", parts)
    last = lines[-1]
    return f"one mask per person: Rank-1-UT {last['Rank-1-UT']:.2f} on {last['recogniser']}"
