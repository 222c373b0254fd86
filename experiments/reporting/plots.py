"""The plots of reports, as PNG files in memory."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

Numbers = Sequence[float] | np.ndarray
Map = tuple[Numbers, Numbers, np.ndarray]  # x [X], y [Y], values [Y,X]
Bars = dict[str, dict[str, dict[str, tuple[float, float, float]]]]  # as `bars` takes them


class Line(NamedTuple):
    """Points of a line, with an interval around each if there is one."""

    x: Numbers
    y: Numbers
    low: Numbers = ()
    high: Numbers = ()


class Axes(NamedTuple):
    """Labels of a plot; y is a share unless `share` is off, on a logarithmic scale if `log` is on."""

    x: str
    y: str
    share: bool = True
    log: bool = False


def panels(
    plots: Mapping[str, Mapping[str, Line]],
    axes: Axes | Mapping[str, Axes],
    *,
    columns: int = 3,
    cloud: bool = False,
) -> bytes:
    """Small multiples: title -> name of a line, or of a cloud of points -> its points; one pair of axes, or one
    for each title."""
    figure, frames = _figure(len(plots), columns)
    for frame, (title, lines) in zip(frames, plots.items()):
        if not cloud and all(np.all(np.mod(line.x, 1) == 0) for line in lines.values()):
            frame.xaxis.get_major_locator().set_params(integer=True)
        for name, line in lines.items():
            if cloud:
                frame.scatter(line.x, line.y, s=10, alpha=0.6, label=name, linewidths=0)
                continue
            marker = "o" if len(line.x) <= 12 else None
            (drawn,) = frame.plot(line.x, line.y, marker=marker, markersize=3, label=name)
            if len(line.low):
                colour = drawn.get_color()
                frame.fill_between(
                    line.x, line.low, line.high, alpha=0.15, color=colour, linewidth=0
                )
        _label(frame, title, axes if isinstance(axes, Axes) else axes[title])
    _legend(figure, frames[0])
    return _png(figure)


def maps(plots: Mapping[str, Map], axes: Axes, value: str, *, lines: bool = False) -> bytes:
    """Small multiples of values over a plane, each in its own scale of colours, which `value` labels; `lines`
    draws level lines over them."""
    figure, frames = _figure(len(plots))
    for frame, (title, (x, y, values)) in zip(frames, plots.items()):
        drawn = frame.pcolormesh(x, y, values, shading="nearest")
        if lines:
            levels = frame.contour(x, y, values, levels=8, colors="white", linewidths=0.6)
            frame.clabel(levels, fontsize=6)
        _label(frame, title, axes._replace(share=False))
        bar = figure.colorbar(drawn, ax=frame)
        bar.set_label(value, fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return _png(figure)


def bars(plots: Bars, axes: Axes) -> bytes:
    """Groups of bars with intervals: title -> series -> group -> (value, low, high)."""
    figure, frames = _figure(len(plots), 1, wide=True)
    for frame, (title, series) in zip(frames, plots.items()):
        groups = list(dict.fromkeys(group for bars in series.values() for group in bars))
        width = 0.8 / max(1, len(series))
        if len(series) > 10:  # as many colours as there are series
            frame.set_prop_cycle("color", list(colormaps["tab20"](np.arange(20))))
        for i, (name, bars_) in enumerate(series.items()):
            there = [group for group in groups if group in bars_]
            place = [groups.index(group) + (i - (len(series) - 1) / 2) * width for group in there]
            value, low, high = np.array([bars_[group] for group in there]).T
            reach = np.maximum([value - low, high - value], 0)
            frame.bar(place, value, width, yerr=reach, label=name, error_kw={"linewidth": 0.7})
        tilt = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if len(groups) > 8 else {}
        frame.set_xticks(range(len(groups)), groups, fontsize=7, **tilt)
        _label(frame, title, axes)
    _legend(figure, frames[0])
    return _png(figure)


def boxes(plots: Mapping[str, Mapping[str, np.ndarray]], axes: Axes) -> bytes:
    """Box plots: title -> name of a box -> its values."""
    figure, frames = _figure(len(plots))
    for frame, (title, groups) in zip(frames, plots.items()):
        frame.boxplot(list(groups.values()), tick_labels=list(groups), sym=".")
        _label(frame, title, axes._replace(y=title))
    return _png(figure)


def _figure(count: int, columns: int = 3, *, wide: bool = False) -> tuple[Any, list[Any]]:
    columns = min(columns, count)
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
    frame.tick_params(which="both", labelsize=7)
    frame.grid(axis="y", linewidth=0.3)
    if axes.log:
        frame.set_yscale("log")
    elif axes.share:
        frame.set_ylim(-0.03, 1.03)


def _legend(figure: Any, frame: Any) -> None:
    """The names in one frame, below all of them, in as many columns as there is room for."""
    drawn, names = frame.get_legend_handles_labels()
    room = figure.get_figwidth() / (0.5 + 0.06 * max(map(len, names)))
    columns = min(len(names), max(1, int(room)))
    figure.legend(drawn, names, loc="outside lower center", ncols=columns, fontsize=7)


def _png(figure: Any) -> bytes:
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    # A palette is a third of the size and looks the same.
    Image.open(drawn).convert("RGB").quantize(128).save(small, format="png", optimize=True)
    return small.getvalue()
