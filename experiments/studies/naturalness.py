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

import jax
import jax.numpy as jnp
import numpy as np

from experiments.judging import ranking
from experiments.protection import cells, runs
from experiments.protection.runs import Row, Run
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

    def make() -> dict[str, np.ndarray]:
        masked = row.canvases[:, 0]
        return {"visible": visible(row.clean, masked), "MMD": discrepancy(row.clean, masked)}

    return cells.kept(run.workdir, f"{row.cell}/naturalness", make)


def curves(lines: Sequence[tables.Line]) -> bytes:
    """Rank-1-T and SSIM against γ, by batch."""
    made: dict[str, dict[str, plots.Line]] = {"Rank-1-T": {}, "SSIM": {}}
    for batch in dict.fromkeys(line["batch"] for line in lines):
        those = [line for line in lines if line["batch"] == batch]
        gammas = [line["γ"] for line in those]
        made["Rank-1-T"][f"batch {batch}"] = tables.curve(gammas, those, "Rank-1-T")
        made["SSIM"][f"batch {batch}"] = plots.Line(gammas, [line["SSIM"] for line in those])
    return plots.panels(made, plots.Axes("γ", ""))


def study(run: Run, attack: str, gammas: Sequence[str], batches: Sequence[int]) -> str:
    """Measures an attack for every weight of the MMD and every batch; returns its main figure."""
    if run.quick:
        attack, gammas, batches = "sface/mim", ["3"], [2]
    # so many more probes that every batch is full
    names = run.named(
        f"{attack}:gamma={gamma}:batch={batch}@{-(-run.probes // batch) * batch}"
        for batch in batches
        for gamma in gammas
    )
    bench = ranking.bench(run.protocol, run.models, run.cache)
    lines: list[tables.Line] = []
    boxes: dict[str, dict[str, np.ndarray]] = {"PSNR": {}, "SSIM": {}, "visible": {}}
    for name in names.values():
        row, found, figures = runs.measured(run, bench, name)
        figures = {**figures, **quality(run, row)}
        line = {"γ": name.setting.gamma, "batch": name.batch, "probes": len(row.probes)}
        line |= {measure: float(values.mean()) for measure, values in figures.items()}
        lines.append(line | tables.over_unseen(name, found, run.seed))
        for measure, groups in boxes.items():
            groups[f"{name.setting.gamma:g} / {name.batch}"] = figures[measure]
    drawn = plots.boxes(boxes, plots.Axes("γ / batch", "", share=False))
    print(results.save(run.workdir, "naturalness", lines, missing=bench.missing))
    parts: list[report.Part] = [
        Table("Naturalness", lines, "Rank-1 over the recognisers that the source does not hold."),
        Table("The paper's Table 5, ArcFace", paper.TABLE_5),
        Table("The paper's Table 6, CosFace", paper.TABLE_6),
        Picture("Rank-1-T and SSIM against γ", curves(lines), "The paper's Figure 5."),
        Picture("Per photo", drawn, "The paper's Figure 3."),
    ]
    report.write(run.workdir, "Naturalness", parts)
    last = lines[-1]
    return f"γ {last['γ']:g}: PSNR {last['PSNR']:.2f} dB, SSIM {last['SSIM']:.3f}"
