"""Curves of an experiment: accuracy over steps, the mean over the seeds, its deviation shaded."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from laboratory.experiments.paper import PAPER
from laboratory.experiments.results import Network
from segzoo.files import atomic_write

_DPI = 120


def draw_experiment(title: str, networks: Sequence[Network], target: Path) -> None:
    """Draw an experiment.

    Args:
        title: above the curves.
        networks: at least one.
        target: PNG to write.
    """
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    others = iter(f"C{number}" for number in range(1, len(networks) + 1))
    for network in networks:
        curves = 100 * np.array([curve.top1 for curve in network.curves])
        steps, mean = network.curves[0].steps, curves.mean(0)
        papers = network.variant == PAPER  # looks the same in all drawings
        color, width = ("black", 2.2) if papers else (next(others), 1.5)
        label = f"{network.variant.title}, {mean[-1]:.1f} %"
        axes.plot(steps, mean, color=color, linewidth=width, marker=".", label=label)
        if len(curves) > 1:
            deviation = curves.std(0, ddof=1)
            axes.fill_between(steps, mean - deviation, mean + deviation, color=color, alpha=0.15, linewidth=0)
    seeds = max(len(network.curves) for network in networks)
    shaded = f"; mean of {seeds} seeds, deviation shaded" if seeds > 1 else ""
    axes.set(title=title, xlabel=f"step{shaded}", ylabel="validation top-1, %")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize=9)
    with atomic_write(target) as part:
        figure.savefig(part, format="png", dpi=_DPI)
