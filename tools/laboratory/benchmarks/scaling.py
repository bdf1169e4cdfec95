"""How time and memory grow with image area, batch and processes: curves, their exponents, and a plot."""

import math
import multiprocessing.synchronize
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from laboratory.benchmarks.harness import Clock, take_turns
from laboratory.benchmarks.inference import WithEngine
from laboratory.benchmarks.memory import fresh_processes, peak_memory, resident_bytes
from laboratory.benchmarks.training import Training
from segzoo.escapes import Column, markdown_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Measured = WithEngine | Training

_DPI = 120
_PATIENCE = 600  # seconds that processes wait for one another to be ready
_barrier: list[multiprocessing.synchronize.Barrier] = []


@dataclass(frozen=True)
class Point:
    """One measurement.

    Args:
        value: image area in pixels, images, or processes.
        seconds: median over the rounds.
        peak_bytes: memory; None where it was not measured.
    """

    value: int
    seconds: float
    peak_bytes: int | None


@dataclass(frozen=True)
class Curve:
    """How one kind of work grows with one thing.

    Args:
        work: which.
        grows: area, batch or processes.
        points: measured, the smallest first.

    `time_exponent` is 1 where time grows as `grows` does, and less where something is shared; so is `memory_exponent`.
    """

    work: str
    grows: str
    points: tuple[Point, ...]

    time_exponent: float = field(init=False)
    memory_exponent: float | None = field(init=False)

    def __post_init__(self) -> None:
        time = [(point.value, point.seconds) for point in self.points]
        memory = [(point.value, point.peak_bytes) for point in self.points if point.peak_bytes]
        object.__setattr__(self, "time_exponent", exponent(time))
        object.__setattr__(self, "memory_exponent", exponent(memory) if len(memory) > 1 else None)


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Of the power law that fits best: the slope of a straight line through the logarithms.

    >>> round(exponent([(1, 3.0), (2, 12.0), (4, 48.0)]), 6)
    2.0
    """
    values, costs = np.log(np.array(points, dtype=np.float64)).T
    return float(np.polyfit(values, costs, 1)[0])


def measure_scaling(
    work: str,
    case: Measured,
    *,
    sizes: Sequence[int],
    batches: Sequence[int],
    processes: Sequence[int],
    rounds: int,
    memory: bool,
    clock: Clock = time.perf_counter,
) -> list[Curve]:
    """Vary one thing at a time, all points of a curve taking turns.

    Args:
        work: the name of what is computed.
        case: what to compute; its batch and size are those of the curves that vary the other.
        sizes: heights and widths in pixels.
        batches: images.
        processes: how many compute at the same time, one thread and one batch each; may be none.
        rounds: counted rounds.
        memory: measure it, too; with processes it always is.
        clock: tells seconds.
    """
    by_area = {size**2: replace(case, size=size) for size in sizes}
    by_batch = {batch: replace(case, batch=batch) for batch in batches}
    curves = [
        Curve(work, "area", _points(by_area, rounds, memory, clock)),
        Curve(work, "batch", _points(by_batch, rounds, memory, clock)),
    ]
    if processes:
        curves.append(Curve(work, "processes", tuple(_side_by_side(case, count, rounds) for count in processes)))
    return curves


def scaling_table(curves: Sequence[Curve]) -> str:
    """A Markdown table."""
    columns: list[Column[Curve]] = [
        Column("work", lambda curve: curve.work, words=True),
        Column("against", lambda curve: curve.grows, words=True),
        Column("from – to", lambda curve: f"{curve.points[0].value:,} – {curve.points[-1].value:,}"),
        Column("ms", lambda curve: _from_to(curve, lambda point: f"{1000 * point.seconds:,.0f}")),
        Column("time grows as", lambda curve: f"x^{curve.time_exponent:z.2f}"),
    ]
    if all(curve.memory_exponent is not None for curve in curves):
        columns.append(
            Column("MiB", lambda curve: _from_to(curve, lambda point: f"{(point.peak_bytes or 0) / 2**20:,.0f}"))
        )
        columns.append(Column("memory grows as", lambda curve: f"x^{curve.memory_exponent:z.2f}"))
    return markdown_table(columns, curves)


def draw_scaling(curves: Sequence[Curve], target: Path) -> None:
    """Time above, memory below, against area, batch and processes, on logarithmic axes; linear growth is dotted.

    Args:
        curves: at least one.
        target: PNG to write.
    """
    from matplotlib.figure import Figure  # takes a second to import

    things = tuple(dict.fromkeys(curve.grows for curve in curves))
    figure = Figure(figsize=(4.5 * len(things), 7), layout="constrained")
    all_axes = figure.subplots(2, len(things), squeeze=False)
    for column, grows in enumerate(things):
        here = [curve for curve in curves if curve.grows == grows]
        for curve in here:
            values = [point.value for point in curve.points]
            _line(all_axes[0, column], curve.work, values, [point.seconds for point in curve.points])
            mebibytes = [(point.peak_bytes or math.nan) / 2**20 for point in curve.points]
            _line(all_axes[1, column], curve.work, values, mebibytes)
        for axes, name in zip(all_axes[:, column], ("seconds", "MiB"), strict=True):
            unit = {"area": "image area, pixels", "batch": "images in a batch"}.get(grows, grows)
            axes.set(xscale="log", yscale="log", xlabel=unit, ylabel=name)
            axes.grid(alpha=0.3, which="both")
            if axes.lines:
                axes.legend(fontsize=8)
    figure.savefig(target, format="png", dpi=_DPI)


def _points(cases: dict[int, Measured], rounds: int, memory: bool, clock: Clock) -> tuple[Point, ...]:
    turns = take_turns([case.prepare() for case in cases.values()], rounds, clock)
    peaks = [peak_memory(case) if memory else None for case in cases.values()]
    return tuple(
        Point(value, turns.seconds(index), peak) for index, (value, peak) in enumerate(zip(cases, peaks, strict=True))
    )


def _side_by_side(case: Measured, count: int, rounds: int) -> Point:
    """The same work in several processes at once: the slowest one's time, and the memory of all."""
    context = fresh_processes()
    barrier = context.Barrier(count, timeout=_PATIENCE)
    with ProcessPoolExecutor(count, mp_context=context, initializer=_join, initargs=(barrier,)) as pool:
        found = list(pool.map(_one_of_several, [case] * count, [rounds] * count))
    times = zip(*(seconds for seconds, _ in found), strict=True)
    return Point(count, statistics.median(map(max, times)), sum(memory for _, memory in found) or None)


def _join(barrier: multiprocessing.synchronize.Barrier) -> None:
    _barrier.append(barrier)


def _one_of_several(case: Measured, rounds: int) -> tuple[list[float], int]:
    torch.set_num_threads(1)
    way, times = case.prepare(), []
    for _ in range(rounds + 1):
        _barrier[0].wait()  # so that no process computes alone, and each takes one task
        start = time.perf_counter()
        way()
        times.append(time.perf_counter() - start)
    return times[1:], resident_bytes()


def _from_to(curve: Curve, text: Callable[[Point], str]) -> str:
    return f"{text(curve.points[0])} – {text(curve.points[-1])}"


def _line(axes: "Axes", name: str, values: Sequence[float], costs: Sequence[float]) -> None:
    known = [(value, cost) for value, cost in zip(values, costs, strict=True) if cost > 0]
    if not known:
        return
    label = f"{name}, x^{exponent(known):z.2f}" if len(known) > 1 else name
    (line,) = axes.plot(*zip(*known, strict=True), marker="o", label=label)
    first_value, first_cost = known[0]
    linear = [first_cost * value / first_value for value, _ in known]
    axes.plot([value for value, _ in known], linear, linestyle=":", color=line.get_color(), linewidth=1)
