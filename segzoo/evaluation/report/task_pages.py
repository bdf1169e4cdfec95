"""What each task adds to the page: a segmenter its gallery of masks, a classifier the images it is worst at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from segzoo.data.reading.labels import voc_palette
from segzoo.data.reading.pixels import Pixels, as_picture
from segzoo.evaluation.report.choice import PER_GROUP, SEED, Chosen, choose
from segzoo.evaluation.report.page import Page
from segzoo.evaluation.report.pictures import MAX_SIDE, Example, Layers, encode_layers, photograph
from segzoo.evaluation.results import ClassEvaluation, ClassifiedImage, Evaluation
from segzoo.tasks.metrics import main_metric, percent

_SCRIPTS = ("theme.js", "classes.js", "confusion.js", "curves.js")
_WORST = 24
_SIDE = 256  # pixels of a picture's longer side
_COLORS = 255


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
    """The page of a segmenter.

    Args:
        evaluation: what was measured.
        examples: image, truth and prediction of the image with that index; asked for the gallery's images only.
    """
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
    """The page of a classifier.

    Args:
        evaluation: what was measured.
        read: gives an image of the split by its number; asked for the worst ones only.
    """
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
