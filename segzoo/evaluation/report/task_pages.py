"""What each task adds to the page: a segmenter its gallery of masks, a classifier the images it is worst at."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from segzoo.data.reading.coding import Color
from segzoo.data.reading.labels import voc_palette
from segzoo.data.reading.pixels import Pixels, as_picture
from segzoo.evaluation.report.pictures import MAX_SIDE, Example, Layers, encode_layers, photograph
from segzoo.evaluation.results import ClassEvaluation, ClassifiedImage, Evaluation, ImageScore
from segzoo.tasks.metrics import main_metric, percent

Group = Literal["worst", "best", "random"]

PER_GROUP = 12
"""Images of each group at most."""
SEED = 0
"""Of the random images, so that two reports of one split show the same ones where they can."""

_SCRIPTS = ("theme.js", "classes.js", "confusion.js", "curves.js")
_WORST = 24
_SIDE = 256  # pixels of a picture's longer side
_COLORS = 255


@dataclass(frozen=True)
class Page:
    """What a task adds to the page that all tasks share.

    Args:
        template: name of its file.
        scripts: names of their files.
        unit: what is counted.
        truth_title: of the column that says how much of a class the truth has.
        colors: of the classes.
        counted: facts that stand behind the number of images.
        protocol: facts that stand behind the weights.
        content: what its template shows, by the names it uses.
        data: what its scripts show.
    """

    template: str
    scripts: Sequence[str]
    unit: str
    truth_title: str
    colors: Sequence[Color]
    counted: Sequence[tuple[str, str]]
    protocol: Sequence[tuple[str, str]]
    content: Mapping[str, Any]
    data: Mapping[str, Any]


class Chosen(NamedTuple):
    """An image of the gallery and why it is there."""

    group: Group
    score: ImageScore


@dataclass(frozen=True)
class Picture:
    """An image of the gallery."""

    chosen: Chosen
    layers: Layers


@dataclass(frozen=True)
class WorstPicture:
    """One of the worst images of a classifier, and its picture as a data URI."""

    image: ClassifiedImage
    uri: str


def mask_page(evaluation: Evaluation, examples: Callable[[int], Example]) -> Page:
    """The page of a segmenter; `examples` is asked for the gallery's images only."""
    labels, protocol, measured = evaluation.labels, evaluation.protocol, evaluation.measured
    pictures = [Picture(chosen, encode_layers(examples(chosen.score.index), labels)) for chosen in choose(evaluation)]
    counted = "Pixels counted" if labels.coding.exclusive else "Decisions counted"
    return Page(
        template="report.html",
        scripts=(*_SCRIPTS, "gallery.js"),
        unit="pixels",
        truth_title="True pixels",
        colors=labels.palette,
        counted=[(counted, f"{int(evaluation.matrix.sum()):,}")],
        protocol=[
            ("Output stride", str(protocol.output_stride)),
            ("Engine", f"{protocol.engine}, {protocol.precision}"),
            ("Test-time augmentation", protocol.tta or "none"),
            ("Tiles", "none: whole images" if protocol.tile is None else f"{protocol.tile} pixels"),
        ],
        content={
            "interval": evaluation.interval,
            "scores": [
                (metric.report_title, metric.text(v)) for metric, v in measured.numbers() if metric.name != "miou"
            ],
            "bars": True,
            "mean": evaluation.scores.miou,
            "categories": [
                (name, metric.text(value))
                for metric in measured.columns().get("category", ())
                for name, value in measured.by_row(metric).items()
            ],
            "pictures": pictures,
            "gallery": {"per_group": PER_GROUP, "seed": SEED, "max_side": MAX_SIDE},
        },
        data={"gallery": [_picture_data(picture) for picture in pictures]},
    )


def class_page(evaluation: ClassEvaluation, read: Callable[[int], Pixels]) -> Page:
    """The page of a classifier; `read` is asked for the worst images only."""
    protocol, palette = evaluation.protocol, voc_palette(_COLORS + 1)[1:]
    scores = {metric.report_title: metric.text(value) for metric, value in evaluation.measured.numbers()}
    headline = main_metric(evaluation.config, evaluation.labels).title
    height, width = protocol.image_size
    return Page(
        template="classification.html",
        scripts=_SCRIPTS,
        unit="images",
        truth_title="Images",
        colors=[palette[index % _COLORS] for index in range(evaluation.labels.num_classes)],
        counted=[],
        protocol=[
            *([("Engine", protocol.engine)] if protocol.engine else []),
            ("Seen", f"the central {100 * protocol.center_crop:g} % at {height}×{width}"),
        ],
        content={
            "headline": headline,
            "score": scores.pop(headline),
            "scores": list(scores.items()),
            "bars": False,
            "mean": None,
            "pictures": [WorstPicture(image, _thumbnail(read(image.index))) for image in evaluation.worst(_WORST)],
        },
        data={},
    )


def _picture_data(picture: Picture) -> Mapping[str, Any]:
    group, score = picture.chosen
    layers = picture.layers
    return {
        "id": score.id,
        "group": group,
        "miou": percent(score.miou),
        "accuracy": percent(score.pixel_accuracy),
        "iou": score.iou,
        "texts": [percent(value) for value in score.iou],
        "ratio": layers.width / layers.height,
        # The photograph is in the thumbnail.
        "layers": {"truth": layers.truth, "prediction": layers.prediction, "errors": layers.errors},
    }


def _thumbnail(pixels: Pixels) -> str:
    picture = as_picture(pixels)
    height, width = picture.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    return photograph(picture, (max(1, round(width * scale)), max(1, round(height * scale))))


def choose(evaluation: Evaluation, per_group: int = PER_GROUP) -> list[Chosen]:
    """The worst images, the best of the others, and random ones of what remains; no image twice.

    Equal images stay in the data set's order. One without a scored pixel is neither good nor bad, so that only chance
    can show it. Where there are few images each group gets its third.
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
