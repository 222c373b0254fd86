"""Lines of tables from measured protections: mean and worst over the judges, journeys, paired differences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.judging.judges import LESS_IS_BETTER, SAME_PHOTO
from experiments.judging.rows import SAVED, Row
from experiments.reporting import bootstrap, tables
from tipim_jax.errors import UserError

Line = dict[str, Any]
LOST = "same photo lost"


def by_judge(row: Row, seed: int) -> list[Line]:
    """A line per group, journey and judge: shares with intervals."""
    made = []
    for after, groups in row.judged.items():
        for group, values in groups.items():
            for judge in values["judge"].values.tolist():
                head = {"protection": row.name.text, "photos of": group, "after": after}
                own = tables.intervals(values.sel(judge=judge), seed)
                made.append({**head, "judge": judge, **own})
    return made


def overall(row: Row, seed: int, after: str = SAVED) -> list[Line]:
    """A line per group: every measure's mean over the judges and that of the worst judge, with intervals.

    After a journey also `LOST`: by how much less of the same photos is hidden than as saved, the mean over the
    judges.
    """
    made = []
    for group, values in row.judged[after].items():
        line: Line = {"protection": row.name.text, "photos of": group, "after": after}
        line |= {"photos": values.sizes["photo"], **tables.intervals(values.mean("judge"), seed)}
        for measure, found in values.items():
            pick = np.max if measure in LESS_IS_BETTER else np.min
            worst = bootstrap.worst(found.values, pick, seed)
            line |= tables.with_interval(f"{measure} worst", worst)
        if after != SAVED:
            lost = (row.judged[SAVED][group] - values)[SAME_PHOTO].mean("judge")
            line |= tables.intervals(lost.to_dataset(name=LOST), seed)
        made.append(line)
    return made


def looks(row: Row, seed: int) -> list[Line]:
    """A line per group: every measure of visibility with its interval."""
    return [
        {"protection": row.name.text, "photos of": group, **tables.intervals(values, seed)}
        for group, values in row.seen.items()
    ]


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
    """First minus second, photo by photo: what is hidden from judges neither has seen, and how it looks."""
    made = []
    for group, values in a.judged[SAVED].items():
        hidden = values - b.judged[SAVED][group]  # of the judges of both
        if not hidden.sizes["judge"]:
            raise UserError(f"no judge is a surrogate of neither {a.name.text} nor {b.name.text}")
        line: Line = {"first": a.name.text, "second": b.name.text, "photos of": group}
        line |= tables.intervals(hidden.mean("judge"), seed)
        made.append(line | tables.intervals(a.seen[group] - b.seen[group], seed))
    return made


def photo_by_photo(row: Row, photos: Mapping[str, Sequence[str]]) -> list[Line]:
    """A line per group and photo: every measure as the mean over the judges, and how it looks. `photos` has the
    names of the photos of each group."""
    made = []
    for group, values in row.judged[SAVED].items():
        both = values.mean("judge").merge(row.seen[group])
        for i, photo in enumerate(photos[group]):
            head = {"protection": row.name.text, "photos of": group, "photo": photo}
            made.append({**head, **{str(m): float(v[i]) for m, v in both.items()}})
    return made


def main_figure(row: Row, seed: int) -> str:
    """The closing line of a launch about a protection of the first group."""
    line = overall(row, seed)[0]
    group = line["photos of"]
    parts = [
        f"{m} {line[m]:.2f}, worst {line[f'{m} worst']:.2f}"
        for m in ("Rank-1-UT", "same photo hidden")
        if m in line
    ]
    looked = row.seen[group].mean()
    name = "face SSIMULACRA2" if "face SSIMULACRA2" in looked else "face SSIM"
    parts.append(f"{name} {float(looked[name]):.3g}, PSNR {float(looked['face PSNR']):.1f} dB")
    return f"{row.name.text}: {'; '.join(parts)}"
