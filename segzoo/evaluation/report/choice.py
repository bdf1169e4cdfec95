"""Which images the gallery shows."""

import math
import random
from typing import Literal, NamedTuple

from segzoo.evaluation.results import Evaluation, ImageScore

Group = Literal["worst", "best", "random"]

PER_GROUP = 12
"""Images of each group at most."""
SEED = 0
"""Of the random images, so that two reports of one split show the same ones where they can."""


class Chosen(NamedTuple):
    """An image of the gallery and why it is there."""

    group: Group
    score: ImageScore


def choose(evaluation: Evaluation, per_group: int = PER_GROUP) -> list[Chosen]:
    """The worst images, the best of the others, and random ones of what remains; no image twice.

    Equal images stay in the data set's order. One without a scored pixel is neither good nor bad, so that only chance
    can show it. Where there are few images each group gets its third.

    Args:
        evaluation: with the scores of every image.
        per_group: images of each group at most.
    """
    scores = evaluation.per_image
    count = min(per_group, math.ceil(len(scores) / 3))
    ranked = evaluation.worst(len(scores))
    worst = ranked[:count]
    best = sorted(ranked[count:], key=lambda score: (-(score.miou or 0.0), score.index))[:count]
    shown = {score.index for score in (*worst, *best)}
    others = [score for score in scores if score.index not in shown]
    drawn = random.Random(SEED).sample(others, min(count, len(others)))
    drawn.sort(key=lambda score: score.index)
    return [
        *(Chosen("worst", score) for score in worst),
        *(Chosen("best", score) for score in best),
        *(Chosen("random", score) for score in drawn),
    ]
