"""Which experiments there are: their networks, each one switch away from the paper's, and what the paper says.

Source: Chollet, Xception: Deep Learning with Depthwise Separable Convolutions, CVPR 2017, arXiv:1610.02357v3: section
4.6 with Fig. 9, section 4.7 with Fig. 10, section 5. Departures: a small network on small pictures for a few hundred
steps, where the paper trains the whole one on ImageNet; one rate for all networks, as in the paper, but not the paper's
schedule, which is for 120 epochs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from segzoo.errors import UnknownNameError, did_you_mean

CONFIG = Path(__file__).with_suffix(".yaml")
"""What all runs share; only the switch and the seed differ."""


class Measure(Enum):
    """A number that a run's curve comes to; more is better."""

    FINAL = "at the end"
    AVERAGE = "on average over the run"


@dataclass(frozen=True)
class Variant:
    """A network.

    Args:
        name: of its runs' folder.
        title: as people write it.
        switch: keys of `model.backbone` that differ from the configuration, which has the paper's network.
    """

    name: str
    title: str
    switch: Mapping[str, object] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Comparison:
    """Two networks side by side.

    Args:
        first: what the paper holds to be better, or what it asks about.
        second: what the first is compared to.
        says: what the paper says; None where it leaves that open.
        measure: what to compare them by.
    """

    first: Variant
    second: Variant
    says: str | None = None
    measure: Measure = Measure.FINAL


@dataclass(frozen=True)
class Experiment:
    """Networks to train, and what to look for.

    Args:
        name: on the command line, and of its plot.
        title: with its place in the paper.
        variants: the networks.
        comparisons: what to look for.
    """

    name: str
    title: str
    variants: tuple[Variant, ...]
    comparisons: tuple[Comparison, ...]


PAPER = Variant("paper", "the paper's")
NO_RESIDUALS = Variant("no_residuals", "without residuals", {"residual": False})
RELU = Variant("relu", "ReLU between", {"depthwise_activation": "relu"})
ELU = Variant("elu", "ELU between", {"depthwise_activation": "elu"})
SEGMENTS = tuple(
    Variant(f"segments_{count}", f"{count} segment{'s' * (count > 1)}", {"channel_segments": count})
    for count in (1, 4, 16)
)
MULTIPLIER_2 = Variant("multiplier_2", "depth multiplier 2", {"depth_multiplier": 2})

_RESIDUALS_END = "residual connections end higher (section 4.6)"
_RESIDUALS_SPEED = "residual connections help convergence in speed (section 4.6)"
_NONE_ENDS = "no non-linearity between depthwise and pointwise ends higher (section 4.7)"
_NONE_SPEED = "no non-linearity converges faster (section 4.7)"
_ELU_ENDS = "ELU ends higher than ReLU (the curves of Fig. 10)"

_ALL = (
    Experiment(
        "residual",
        "Residual connections (section 4.6, Fig. 9)",
        (PAPER, NO_RESIDUALS),
        (
            Comparison(PAPER, NO_RESIDUALS, _RESIDUALS_END),
            Comparison(PAPER, NO_RESIDUALS, _RESIDUALS_SPEED, Measure.AVERAGE),
        ),
    ),
    Experiment(
        "activation",
        "Activation between depthwise and pointwise (section 4.7, Fig. 10)",
        (PAPER, ELU, RELU),
        (
            Comparison(PAPER, ELU, _NONE_ENDS),
            Comparison(PAPER, RELU, _NONE_ENDS),
            Comparison(PAPER, ELU, _NONE_SPEED, Measure.AVERAGE),
            Comparison(PAPER, RELU, _NONE_SPEED, Measure.AVERAGE),
            Comparison(ELU, RELU, _ELU_ENDS),
        ),
    ),
    Experiment(
        "segments",
        "Channel segments, from a plain convolution to one per channel (section 5)",
        (*SEGMENTS, PAPER),
        tuple(Comparison(variant, PAPER) for variant in SEGMENTS),
    ),
    Experiment(
        "multiplier",
        "Depth multiplier (1 in the paper, which compares no other)",
        (PAPER, MULTIPLIER_2),
        (Comparison(MULTIPLIER_2, PAPER),),
    ),
)
EXPERIMENTS = {experiment.name: experiment for experiment in _ALL}
"""Name -> experiment, in the paper's order."""


def chosen_experiments(name: str | None) -> list[Experiment]:
    """One experiment, or without a name all.

    Raises:
        UnknownNameError: there is none of this name.

    >>> [len(chosen_experiments(name)) for name in (None, "residual")]
    [4, 1]
    """
    if name is None:
        return list(EXPERIMENTS.values())
    if name not in EXPERIMENTS:
        raise UnknownNameError(f"--experiment: unknown name {name!r}. {did_you_mean(name, EXPERIMENTS)}")
    return [EXPERIMENTS[name]]
