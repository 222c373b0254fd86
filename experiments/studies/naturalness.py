"""How visible masks are: PSNR, SSIM, MMD and a perceptual measure, against γ and the batch of the MMD.

The paper's Table 5 (γ), Table 6 (batch of the MMD), Figure 3 (box plots) and Figure 5 (Rank-1-T and SSIM
against γ). γ is that of Eq. 4. The batch is one of unrelated probes, of which there are so many more than
--num_probes that every batch is full. MMD is measured over the 112 × 112 pixels of the face, in
groups of 50 (all probes if fewer), Eq. 3 without the released code's division by the batch size. "Visible"
is the root mean square of the mask where contrast does not hide it: every pixel is divided by the budget
that its surroundings allow (`perceptual.budget`, mean square 1), in pixel levels. Rank-1 is the mean over
the recognisers that the source does not hold.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.judging import ranking
from experiments.protection import cells, runs
from experiments.protection.runs import Measured, Row, Run
from experiments.reporting import paper, plots, report, results, tables
from experiments.reporting.report import Picture, Table
from tipim_jax.core import naturalness, perceptual
from tipim_jax.core.geometry import CANVAS_MARGIN

_GROUP = 50

_mmd = jax.jit(naturalness.mmd)


@jax.jit
def _visible(clean: jax.Array, mask: jax.Array) -> jax.Array:
    """Canvases and masks [B,H,W,3] -> [B] pixel levels."""
    budget = jax.vmap(lambda image: perceptual.budget(image, 1.0, jnp.inf))(clean)
    return jnp.sqrt(jnp.mean((mask / budget) ** 2, axis=(1, 2, 3)))


def visible(clean: np.ndarray, protected: np.ndarray) -> np.ndarray:
    """[P] how visible the masks of canvases [P,160,160,3] uint8 are, pixel levels."""
    a, b = (np.asarray(x, np.float32) for x in (clean, protected))
    return np.concatenate([np.asarray(_visible(x[None], (y - x)[None])) for x, y in zip(a, b)])


def discrepancy(clean: np.ndarray, protected: np.ndarray) -> np.ndarray:
    """[groups] MMD of the faces of canvases [P,160,160,3], in whole groups of 50, at least one."""
    size = min(_GROUP, len(clean))
    inside = slice(CANVAS_MARGIN, -CANVAS_MARGIN)
    a, b = (jnp.asarray(x[:, inside, inside], jnp.float32) for x in (clean, protected))
    return np.array(
        [
            float(_mmd(b[start : start + size], a[start : start + size]))
            for start in range(0, len(clean) - size + 1, size)
        ]
    )


def quality(run: Run, row: Row) -> dict[str, np.ndarray]:
    """What PSNR and SSIM leave open: "visible" [P] and "MMD" [groups], kept."""
    protected = row.canvases[:, 0]
    return cells.kept(
        run.workdir,
        f"{row.cell}/naturalness",
        lambda: {
            "visible": visible(row.clean, protected),
            "MMD": discrepancy(row.clean, protected),
        },
    )


def whole(probes: int, batch: int) -> int:
    """As many probes, rounded up to full batches."""
    return -(-probes // batch) * batch


def line(measured: Measured, more: dict[str, np.ndarray], seed: int) -> dict[str, Any]:
    """One row of the table."""
    row, found, figures = measured
    made = {"γ": row.name.setting.gamma, "batch": row.name.batch, "probes": len(row.probes)}
    made |= {name: float(values.mean()) for name, values in {**figures, **more}.items()}
    return made | tables.over_unseen(row.name, found, seed)


def pictures(
    lines: Sequence[dict[str, Any]], boxes: dict[str, dict[str, Sequence[float] | np.ndarray]]
) -> list[Picture]:
    """Figure 5 and Figure 3."""
    batches = list(dict.fromkeys(line["batch"] for line in lines))
    curves: dict[str, dict[str, plots.Line]] = {}
    for measure in ("Rank-1-T", "SSIM"):
        for batch in batches:
            those = [line for line in lines if line["batch"] == batch]
            low, high = (
                [x[f"{measure} {end}"] for x in those if f"{measure} {end}" in x]
                for end in ("low", "high")
            )
            curves.setdefault(measure, {})[f"batch {batch}"] = plots.Line(
                [x["γ"] for x in those], [x[measure] for x in those], low, high
            )
    return [
        Picture(
            "Rank-1-T and SSIM against γ",
            plots.panels(curves, plots.Axes("γ", "")),
            "The paper's Figure 5.",
        ),
        Picture(
            "Per photo",
            plots.boxes(boxes, plots.Axes("γ / batch", "", share=False)),
            "The paper's Figure 3.",
        ),
    ]


def study(run: Run, attack: str, gammas: Sequence[str], batches: Sequence[int]) -> str:
    """Measures an attack for every weight of the MMD and every batch; returns its main figure.

    Raises:
      UserError: the attack is none, or a weight is no number.
    """
    if run.quick:
        attack, gammas, batches = "sface/mim", ["3"], [2]
    rows = [
        f"{attack}:gamma={gamma}:batch={batch}@{whole(run.probes, batch)}"
        for batch in batches
        for gamma in gammas
    ]
    names = run.named(rows)
    bench = ranking.bench(run.protocol, run.models, run.cache)
    lines, boxes = [], {"PSNR": {}, "SSIM": {}, "visible": {}}  # type: ignore[var-annotated]
    for name in names.values():
        measured = runs.measured(run, bench, name)
        more = quality(run, measured.row)
        lines.append(line(measured, more, run.seed))
        for title, values in boxes.items():
            values[f"{name.setting.gamma:g} / {name.batch}"] = {**measured.quality, **more}[title]
    print(results.save(run.workdir, "naturalness", lines, missing=bench.missing))
    parts: list[report.Part] = [
        Table("Naturalness", lines, "Rank-1 over the recognisers that the source does not hold."),
        Table("The paper's Table 5, ArcFace", paper.TABLE_5),
        Table("The paper's Table 6, CosFace", paper.TABLE_6),
        *pictures(lines, boxes),
    ]
    report.write(run.workdir, "Naturalness", parts)
    last = lines[-1]
    return f"γ {last['γ']:g}: PSNR {last['PSNR']:.2f} dB, SSIM {last['SSIM']:.3f}"
