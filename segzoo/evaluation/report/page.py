"""What the page says, as the template takes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from segzoo.checkpoint.format import versions
from segzoo.config.load import dump_config
from segzoo.data.reading.coding import Color
from segzoo.evaluation.report.curves import Panel
from segzoo.evaluation.results import Measurement
from segzoo.tasks.confusion import regions_of
from segzoo.tasks.metrics import Measured, percent


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


def page_content(evaluation: Measurement, page: Page, panels: Sequence[Panel]) -> dict[str, Any]:
    """Everything that the template shows, by the names it uses.

    Args:
        evaluation: what was measured.
        page: what the task adds.
        panels: training curves.
    """
    labels, protocol = evaluation.labels, evaluation.protocol
    named = zip(labels.names, page.colors, strict=True)
    classes = [{"name": name, "color": "#{:02x}{:02x}{:02x}".format(*color)} for name, color in named]
    facts = [
        ("Data set", protocol.dataset),
        ("Split", protocol.split),
        ("Images", f"{evaluation.images:,}"),
        *page.counted,
        ("Checkpoint", protocol.checkpoint),
        ("Weights", protocol.weights),
        *page.protocol,
        ("Report written", datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions().items())),
    ]
    return {
        "evaluation": evaluation,
        "protocol": protocol,
        "facts": facts,
        "classes": classes,
        "exclusive": labels.coding.exclusive,
        "unit": page.unit,
        "columns": _class_columns(evaluation.measured, regions_of(evaluation.matrix)[1].tolist(), page.truth_title),
        "panels": panels,
        "config": dump_config(evaluation.config),
        "command": evaluation.command,
        "data": {
            "classes": classes,
            "unit": page.unit,
            "matrix": evaluation.matrix.tolist() if labels.coding.exclusive else None,
            "panels": [_panel_data(panel) for panel in panels],
            **page.data,
        },
        **page.content,
    }


def _class_columns(measured: Measured, pixels: Sequence[int], unit: str) -> list[Column]:
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


def _panel_data(panel: Panel) -> dict[str, Any]:
    """A panel as its script takes it."""
    series = panel.series
    texts = [percent(value) if series.share else f"{value:.4g}" for value in series.values]
    return {"points": panel.points, "texts": [f"step {s:,}: {t}" for s, t in zip(series.steps, texts, strict=True)]}
