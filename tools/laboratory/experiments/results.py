"""What finished runs came to: curves, means and deviations over the seeds, and what they say of the paper's claims."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from laboratory.experiments.paper import Comparison, Measure, Variant
from laboratory.experiments.runs import Run
from segzoo.backbones.describe import measure
from segzoo.checkpoint.metrics import points, read_rows
from segzoo.config.classification import ClassificationRunConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.sample import ClassesOf
from segzoo.training.build import sketch_network


@dataclass(frozen=True)
class Curve:
    """Validation accuracy of one run.

    Args:
        steps: of the validations, rising.
        top1: their accuracies, 0 to 1.
        images_per_second: trained on.
    """

    steps: tuple[int, ...]
    top1: tuple[float, ...]
    images_per_second: float

    def value(self, which: Measure) -> float:
        """The number that it comes to."""
        return self.top1[-1] if which is Measure.FINAL else statistics.fmean(self.top1)


@dataclass(frozen=True)
class Spread:
    """A number over seeds.

    Args:
        mean: of the runs.
        deviation: of single runs, estimated from these (n - 1); None of one.
    """

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value.

        >>> Spread.of([1.0, 3.0]).mean, Spread.of([1.0]).deviation
        (2.0, None)
        """
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)

    def percent(self) -> str:
        """In percent.

        >>> Spread(0.5, 0.0123).percent()
        '50.0 ± 1.2'
        """
        deviation = "" if self.deviation is None else f" ± {100 * self.deviation:.1f}"
        return f"{100 * self.mean:.1f}{deviation}"


@dataclass(frozen=True)
class Network:
    """A network and its finished runs.

    Args:
        variant: which.
        parameters: trainable numbers.
        macs: multiply-adds of one image.
        curves: one for each seed, at the same steps.
    """

    variant: Variant
    parameters: int
    macs: int
    curves: tuple[Curve, ...]

    def spread(self, which: Measure) -> Spread:
        """A number of its runs."""
        return Spread.of([curve.value(which) for curve in self.curves])

    def learned(self, chance: float) -> bool:
        """Whether it ends above chance by more than the deviation of its runs, and by a twentieth of what is left."""
        end = self.spread(Measure.FINAL)
        return end.mean - chance > max(end.deviation or 0.0, (1 - chance) / 20)

    @property
    def images_per_second(self) -> float:
        """The runs' median."""
        return statistics.median(curve.images_per_second for curve in self.curves)


def finished_networks(runs: Sequence[Run], labels: LabelSpace) -> dict[Variant, Network]:
    """The networks of which a run is finished.

    Args:
        runs: all that were planned.
        labels: classes of the data set.
    """
    found: dict[Variant, list[Run]] = {}
    for run in runs:
        if run.finished:
            found.setdefault(run.variant, []).append(run)
    return {variant: _network(variant, own, labels) for variant, own in found.items()}


def read_curve(run: Run) -> Curve:
    """The validations of a finished run."""
    steps, top1 = zip(*points(read_rows(run.folder.metrics), "top1", "val"), strict=True)
    summary = json.loads(run.folder.summary.read_text(encoding="utf-8"))
    return Curve(steps, top1, float(summary["images_per_second"]))


def chance_level(classes: ClassesOf) -> float:
    """Accuracy of always naming the most frequent class.

    >>> chance_level([(0,), (1,), (1,), (2,)])
    0.5
    """
    return max(Counter(classes).values()) / len(classes)


def costs(config: ClassificationRunConfig, labels: LabelSpace) -> tuple[int, int]:
    """Parameters of a configuration's network, and its multiply-adds for one image."""
    network = sketch_network(config, labels)
    with torch.device("meta"):
        image = torch.empty(1, config.data.channels, *config.data.image_size)
    parameters = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return parameters, measure(network.eval(), image).total.macs


def verdict(comparison: Comparison, networks: Mapping[Variant, Network], chance: float) -> str:
    """What was found, in words that the numbers allow.

    A difference counts where it is larger than the spread: the deviation of the difference of two single runs, which
    is the root of the sum of both networks' squared deviations. Of a network that did not learn, nothing is said but
    that: how high it would end, or how fast, these settings do not tell.

    Args:
        comparison: which networks, by what.
        networks: finished ones.
        chance: accuracy of always naming the most frequent class.

    Returns:
        One line of Markdown.
    """
    missing = [one.title for one in (comparison.first, comparison.second) if one not in networks]
    if missing:
        return f"**open**: no finished run of {' and '.join(missing)}"
    first, second = (networks[one].spread(comparison.measure) for one in (comparison.first, comparison.second))
    difference = first.mean - second.mean
    sides = f"{comparison.first.title} {first.percent()} %, {comparison.second.title} {second.percent()} %"
    found = f"{comparison.measure.value} {sides}: {100 * difference:+z.1f} points"
    if first.deviation is None or second.deviation is None:
        return _line("open", comparison, f"{found}; one seed has no spread")
    spread = math.hypot(first.deviation, second.deviation)
    found = f"{found}, spread {100 * spread:.1f}"
    stuck = [one.title for one in (comparison.first, comparison.second) if not networks[one].learned(chance)]
    if stuck:
        note = f"{' and '.join(stuck)} stayed at chance ({100 * chance:.1f} %): did not learn with these settings"
        return _line("open", comparison, f"{found}; {note}")
    return _line(_word(comparison, difference, spread), comparison, found)


def _word(comparison: Comparison, difference: float, spread: float) -> str:
    if abs(difference) <= spread:
        return "no difference beyond the spread" if comparison.says is None else "not confirmed"
    if comparison.says is None:
        return "higher" if difference > 0 else "lower"
    return "confirmed" if difference > 0 else "contradicted"


def _line(word: str, comparison: Comparison, found: str) -> str:
    says = "" if comparison.says is None else f"the paper: {comparison.says}. Here "
    return f"**{word}**: {says}{found}"


def _network(variant: Variant, runs: Sequence[Run], labels: LabelSpace) -> Network:
    parameters, macs = costs(runs[0].config, labels)
    return Network(variant, parameters, macs, tuple(read_curve(run) for run in runs))
