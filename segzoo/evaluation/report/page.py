"""What the page says, as the template takes it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from segzoo.checkpoint.format import versions
from segzoo.config.load import dump_config
from segzoo.data.coding import Color
from segzoo.evaluation.numbers import regions_of
from segzoo.evaluation.report.choice import PER_GROUP, SEED, Chosen
from segzoo.evaluation.report.curves import Panel
from segzoo.evaluation.report.pictures import MAX_SIDE, Layers
from segzoo.evaluation.results import Evaluation, Shares
from segzoo.tasks.table import percent


@dataclass(frozen=True)
class Picture:
    """An image of the gallery."""

    chosen: Chosen
    layers: Layers


@dataclass(frozen=True)
class Column:
    """A score of every class.

    Args:
        title: what it is.
        meaning: in a sentence.
        values: one for each class.
        texts: the values as they are shown.
    """

    title: str
    meaning: str
    values: Sequence[float | None]
    texts: Sequence[str]


def page_content(evaluation: Evaluation, pictures: Sequence[Picture], panels: Sequence[Panel]) -> dict[str, Any]:
    """Everything that the template shows, by the names it uses.

    Args:
        evaluation: what was measured.
        pictures: of the gallery, in order.
        panels: training curves.
    """
    labels = evaluation.labels
    classes = [
        {"name": name, "color": css_color(color)} for name, color in zip(labels.names, labels.palette, strict=True)
    ]
    return {
        "evaluation": evaluation,
        "protocol": evaluation.protocol,
        "interval": evaluation.interval,
        "scores": list(_headline(evaluation)),
        "facts": list(_facts(evaluation)),
        "classes": classes,
        "exclusive": labels.coding.exclusive,
        "unit": "pixels",
        "columns": list(_columns(evaluation)),
        "bars": True,
        "mean": evaluation.scores.miou,
        "categories": evaluation.categories,
        "panels": panels,
        "pictures": pictures,
        "gallery": {"per_group": PER_GROUP, "seed": SEED, "max_side": MAX_SIDE},
        "config": dump_config(evaluation.config),
        "command": evaluation.command,
        "data": {
            "classes": classes,
            "unit": "pixels",
            "matrix": evaluation.matrix.tolist() if labels.coding.exclusive else None,
            "panels": [panel_data(panel) for panel in panels],
            "gallery": [_picture_data(picture) for picture in pictures],
        },
    }


def _headline(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Scores of the whole split beside mIoU, with their values."""
    yield "Pixel accuracy", percent(evaluation.scores.pixel_accuracy)
    yield "Mean accuracy", percent(evaluation.classes.mean_accuracy)
    yield "Mean Dice", percent(evaluation.classes.mean_dice)
    yield "Frequency-weighted IoU", percent(evaluation.classes.frequency_weighted_iou)
    if evaluation.boundary is not None:
        yield "Boundary IoU", percent(evaluation.boundary.mean_iou)
        yield "Boundary F-score", percent(evaluation.boundary.mean_f_score)
    if evaluation.categories is not None:
        yield "Category mIoU", percent(evaluation.categories.miou)


def _facts(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """How it was measured."""
    protocol = evaluation.protocol
    yield "Data set", protocol.dataset
    yield "Split", protocol.split
    yield "Images", f"{evaluation.images:,}"
    counted = "Pixels counted" if evaluation.labels.coding.exclusive else "Decisions counted"
    yield counted, f"{int(evaluation.matrix.sum()):,}"
    yield "Checkpoint", protocol.checkpoint
    yield "Weights", protocol.weights
    yield "Output stride", str(protocol.output_stride)
    yield "Engine", f"{protocol.engine}, {protocol.precision}"
    yield "Test-time augmentation", protocol.tta or "none"
    yield "Tiles", "none: whole images" if protocol.tile is None else f"{protocol.tile} pixels"
    yield "Report written", datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    yield "Versions", ", ".join(f"{name} {version}" for name, version in versions().items())


def _columns(evaluation: Evaluation) -> Iterator[Column]:
    """The class table's columns, IoU first."""
    classes, boundary = evaluation.classes, evaluation.boundary
    yield shares_column("IoU", "hits / (true or predicted pixels)", evaluation.scores.iou)
    yield shares_column("Recall", "share of the true pixels that were found", classes.recall)
    yield shares_column("Precision", "share of the predicted pixels that are right", classes.precision)
    yield shares_column("Dice", "harmonic mean of recall and precision", classes.dice)
    if boundary is not None:
        yield shares_column("Boundary IoU", "IoU of the pixels near an outline", boundary.iou)
        yield shares_column("Boundary F", "outlines that meet one another", boundary.f_score)
    truth = regions_of(evaluation.matrix)[1].tolist()
    yield Column("True pixels", "in the whole split", truth, [f"{count:,}" for count in truth])


def shares_column(title: str, meaning: str, values: Shares) -> Column:
    """A column of shares of 1, shown in percent."""
    return Column(title, meaning, values, [percent(value) for value in values])


def panel_data(panel: Panel) -> dict[str, Any]:
    """A panel as its script takes it."""
    series = panel.series
    texts = [percent(value) if series.share else f"{value:.4g}" for value in series.values]
    return {"points": panel.points, "texts": [f"step {s:,}: {t}" for s, t in zip(series.steps, texts, strict=True)]}


def _picture_data(picture: Picture) -> dict[str, Any]:
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


def css_color(color: Color) -> str:
    """A colour as style sheets have it."""
    return "#{:02x}{:02x}{:02x}".format(*color)
