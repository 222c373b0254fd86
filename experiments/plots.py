"""The plots of reports, as PNG files in memory."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Line(NamedTuple):
    """Points of a line, with an interval around each if there is one."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


class Axes(NamedTuple):
    """Labels of a plot; y is a share unless `share` is off."""

    x: str
    y: str
    share: bool = True


def panels(plots: Mapping[str, Mapping[str, Line]], axes: Axes) -> bytes:
    """Small multiples: title -> name of a line -> its points."""
    figure, frames = _figure(len(plots))
    for frame, (title, lines) in zip(frames, plots.items()):
        for name, line in lines.items():
            (drawn,) = frame.plot(line.x, line.y, marker="o", markersize=3, label=name)
            if len(line.low):
                frame.fill_between(
                    line.x, line.low, line.high, alpha=0.15, color=drawn.get_color(), linewidth=0
                )
        _label(frame, title, axes)
    frames[0].legend(fontsize=7)
    return _png(figure)


def bars(
    plots: Mapping[str, Mapping[str, Mapping[str, tuple[float, float, float]]]], axes: Axes
) -> bytes:
    """Groups of bars with intervals: title -> series -> group -> (value, low, high)."""
    figure, frames = _figure(len(plots), wide=True)
    for frame, (title, series) in zip(frames, plots.items()):
        groups = list(dict.fromkeys(group for bars in series.values() for group in bars))
        width = 0.8 / max(1, len(series))
        for i, (name, bars_) in enumerate(series.items()):
            there = [group for group in groups if group in bars_]
            place = [groups.index(group) + (i - (len(series) - 1) / 2) * width for group in there]
            value, low, high = np.array([bars_[group] for group in there]).T
            reach = np.maximum([value - low, high - value], 0)
            frame.bar(place, value, width, yerr=reach, label=name, error_kw={"linewidth": 0.7})
        frame.set_xticks(range(len(groups)), groups, fontsize=7)
        _label(frame, title, axes)
    frames[0].legend(fontsize=6)
    return _png(figure)


def boxes(plots: Mapping[str, Mapping[str, Sequence[float]]], axes: Axes) -> bytes:
    """Box plots: title -> name of a box -> its values."""
    figure, frames = _figure(len(plots))
    for frame, (title, groups) in zip(frames, plots.items()):
        frame.boxplot(list(groups.values()), tick_labels=list(groups), sym=".")
        _label(frame, title, axes._replace(y=title))
    return _png(figure)


def _figure(count: int, *, wide: bool = False) -> tuple[Any, list[Any]]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('plots need `pip install "tipim-jax[plots]"`') from None
    columns = 1 if wide else min(3, count)
    rows = -(-count // columns)
    size = (9.0, 3.2 * rows) if wide else (3.6 * columns, 2.9 * rows)
    figure = Figure(figsize=size, layout="constrained", dpi=110)
    frames = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for frame in frames[count:]:
        frame.set_visible(False)
    return figure, frames


def _label(frame: Any, title: str, axes: Axes) -> None:
    frame.set_title(title, fontsize=9)
    frame.set_xlabel(axes.x, fontsize=8)
    frame.set_ylabel(axes.y, fontsize=8)
    frame.tick_params(labelsize=7)
    frame.grid(axis="y", linewidth=0.3)
    if axes.share:
        frame.set_ylim(-0.03, 1.03)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
