"""What the page says, as the template takes it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from segzoo.checkpoint.format import versions
from segzoo.config.load import dump_config
from segzoo.data.coding import Color
from segzoo.evaluation.report.choice import PER_GROUP, SEED, Chosen
from segzoo.evaluation.report.curves import Panel
from segzoo.evaluation.report.pictures import MAX_SIDE, Layers
from segzoo.evaluation.results import Evaluation
from segzoo.tasks.confusion import regions_of
from segzoo.tasks.metrics import Measured
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
        lowest_first: what a first click sorts by, so that the best stand on top.
    """

    title: str
    meaning: str
    values: Sequence[float | None]
    texts: Sequence[str]
    lowest_first: bool = False


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
    scores = evaluation.measured.numbers()
    return {
        "evaluation": evaluation,
        "protocol": evaluation.protocol,
        "interval": evaluation.interval,
        "scores": [(metric.report_title, metric.text(value)) for metric, value in scores if metric.name != "miou"],
        "facts": list(_facts(evaluation)),
        "classes": classes,
        "exclusive": labels.coding.exclusive,
        "unit": "pixels",
        "columns": class_columns(evaluation.measured, regions_of(evaluation.matrix)[1].tolist(), "True pixels"),
        "bars": True,
        "mean": evaluation.scores.miou,
        "categories": [
            (name, metric.text(value))
            for metric in evaluation.measured.columns().get("category", ())
            for name, value in evaluation.measured.by_row(metric).items()
        ],
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


def class_columns(measured: Measured, pixels: Sequence[int], unit: str) -> list[Column]:
    """The class table's columns.

    Args:
        measured: what the metrics say.
        pixels: how much of each class the truth has.
        unit: of what.
    """
    found = []
    for metric in measured.columns().get("class", ()):
        values = measured.each(metric.name)
        texts = [metric.text(value) for value in values]
        found.append(Column(metric.report_title, metric.meaning, values, texts, not metric.higher_is_better))
    return [*found, Column(unit, "in the whole split", pixels, [f"{count:,}" for count in pixels])]


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
