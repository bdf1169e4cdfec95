"""Images a second of several ways of working through the same images, and their ratios to the first way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from laboratory.benchmarks.rounds import Turns
from segzoo.markdown import Column, markdown_table


@dataclass(frozen=True)
class Rate:
    """One way, measured.

    Args:
        name: which.
        images_per_second: median over the rounds.
        ratio: to the first way, median over the rounds of the ratios in the same round; the heading says of what.
    """

    name: str
    images_per_second: float
    ratio: float


def rates(names: Sequence[str], turns: Turns, images: int, ratio: Callable[[int], float]) -> list[Rate]:
    """What all ways came to.

    Args:
        names: of the ways, in order.
        turns: their times.
        images: that each of them worked through in a round.
        ratio: `turns.times_faster` or `turns.times_longer`.
    """
    return [Rate(name, images / turns.seconds(index), ratio(index)) for index, name in enumerate(names)]


def rate_table(found: Sequence[Rate], *, way: str = "way", rate: str = "images/s", ratio: str) -> str:
    """A Markdown table with these headings."""
    columns: list[Column[Rate]] = [
        Column(way, lambda one: one.name, words=True),
        Column(rate, lambda one: f"{one.images_per_second:.2f}"),
        Column(ratio, lambda one: f"{one.ratio:.3f}"),
    ]
    return markdown_table(columns, found)
