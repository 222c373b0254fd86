"""Lines of tables from measured protections: mean and worst over the judges, journeys, paired differences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.judging.judges import LESS_IS_BETTER, SAME_PHOTO
from experiments.judging.rows import SAVED, Row
from experiments.judging.scene import PROBES
from experiments.reporting import bootstrap, tables
from tipim_jax.errors import UserError

Line = dict[str, Any]
LOST = "same photo lost"


def by_judge(row: Row, seed: int) -> list[Line]:
    """A line per group, journey and judge: shares with intervals."""
    made = []
    for after, groups in row.judged.items():
        for group, values in groups.items():
            for judge in next(iter(values.values())):
                head = {"protection": row.name.text, "photos of": group, "after": after}
                line: Line = {**head, "judge": judge}
                for measure, per_judge in values.items():
                    line |= tables.with_interval(measure, _interval(per_judge[judge], seed))
                made.append(line)
    return made


def overall(row: Row, seed: int, after: str = SAVED) -> list[Line]:
    """A line per group: every measure's mean over the judges and that of the worst judge, with intervals.

    After a journey also `LOST`: by how much less of the same photos is hidden than as saved, the mean over the
    judges.
    """
    made = []
    for group, values in row.judged[after].items():
        line: Line = {"protection": row.name.text, "photos of": group, "after": after}
        line["photos"] = len(next(iter(next(iter(values.values())).values())))
        for measure, per_judge in values.items():
            stacked = _stacked(per_judge)
            line |= tables.with_interval(measure, _interval(stacked.mean(0), seed))
            pick = np.max if measure in LESS_IS_BETTER else np.min
            worst = bootstrap.worst(stacked, pick, seed)
            line |= tables.with_interval(f"{measure} worst", worst)
        if after != SAVED:
            saved, now = (
                _stacked(g[group][SAME_PHOTO]) for g in (row.judged[SAVED], row.judged[after])
            )
            line |= tables.with_interval(LOST, _interval((saved - now).mean(0), seed))
        made.append(line)
    return made


def looks(row: Row, seed: int) -> list[Line]:
    """A line per group: every measure of visibility with its interval."""
    made = []
    for group, measures in row.seen.items():
        line: Line = {"protection": row.name.text, "photos of": group}
        for measure, values in measures.items():
            line |= tables.with_interval(measure, _interval(values, seed))
        made.append(line)
    return made


def shares(lines: Sequence[Line], measures: Sequence[str]) -> list[Line]:
    """The lines of `overall` for readers: "mean [low, high] / worst" in percent."""
    made = []
    for line in lines:
        short = {key: line[key] for key in ("protection", "photos of", "after", "photos")}
        for measure in measures:
            if measure in line:
                mean, low, high = (100 * x for x in tables.interval(line, measure))
                short[measure] = f"{mean:.1f} [{low:.1f}, {high:.1f}]"
                if f"{measure} worst" in line:
                    short[measure] += f" / {100 * line[f'{measure} worst']:.1f}"
        made.append(short)
    return made


def figures(lines: Sequence[Line]) -> list[Line]:
    """The lines of `looks` for readers: means alone."""
    return [
        {key: v for key, v in line.items() if not key.endswith((" low", " high"))} for line in lines
    ]


def compared(a: Row, b: Row, seed: int) -> list[Line]:
    """First minus second, photo by photo: what is hidden from judges that neither has seen, and how it looks.

    Raises:
      UserError: every judge is a surrogate of one of them.
    """
    made = []
    for group, values in a.judged[SAVED].items():
        line: Line = {"first": a.name.text, "second": b.name.text, "photos of": group}
        for measure, per_judge in values.items():
            other = b.judged[SAVED][group][measure]
            both = [judge for judge in per_judge if judge in other]
            if not both:
                raise UserError(
                    f"no judge is a surrogate of neither {a.name.text} nor {b.name.text}"
                )
            first, second = (_stacked(x, both).mean(0) for x in (per_judge, other))
            line |= tables.with_interval(measure, _interval(first - second, seed))
        for measure, looked in a.seen[group].items():
            difference = looked - b.seen[group][measure]
            line |= tables.with_interval(measure, _interval(difference, seed))
        made.append(line)
    return made


def photo_by_photo(row: Row, photos: Mapping[str, Sequence[str]]) -> list[Line]:
    """A line per group and photo: every measure as the mean over the judges, and how it looks. `photos` has the
    names of the photos of each group."""
    made = []
    for group, values in row.judged[SAVED].items():
        means = {measure: _stacked(per_judge).mean(0) for measure, per_judge in values.items()}
        for i, photo in enumerate(photos[group]):
            line: Line = {"protection": row.name.text, "photos of": group, "photo": photo}
            made.append(line | {m: float(v[i]) for m, v in {**means, **row.seen[group]}.items()})
    return made


def main_figure(row: Row, seed: int) -> str:
    """The closing line of a launch about a protection of the first group."""
    group = PROBES if PROBES in row.seen else next(iter(row.seen))
    (line,) = (line for line in overall(row, seed) if line["photos of"] == group)
    parts = [
        f"{m} {line[m]:.2f}, worst {line[f'{m} worst']:.2f}"
        for m in ("Rank-1-UT", "same photo hidden")
        if m in line
    ]
    looked = row.seen[group]
    name = "face SSIMULACRA2" if "face SSIMULACRA2" in looked else "face SSIM"
    parts.append(f"{name} {np.mean(looked[name]):.3g}, PSNR {np.mean(looked['face PSNR']):.1f} dB")
    return f"{row.name.text}: {'; '.join(parts)}"


def _stacked(
    per_judge: Mapping[str, np.ndarray], judges: Sequence[str] | None = None
) -> np.ndarray:
    """[J,P] float."""
    return np.stack([np.asarray(per_judge[j], np.float64) for j in judges or per_judge])


def _interval(values: np.ndarray, seed: int) -> bootstrap.Interval:
    """Over the photos that have a value."""
    values = np.asarray(values, np.float64)
    known = values[~np.isnan(values)]
    return bootstrap.interval(known if len(known) else values, seed)
