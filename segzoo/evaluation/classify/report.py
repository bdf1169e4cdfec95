"""The report of a classifier's evaluation: the segmenter's page, with images in place of pixels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from segzoo.checkpoint.format import versions
from segzoo.checkpoint.metrics import METRICS_CSV
from segzoo.checkpoint.read import run_dir_of
from segzoo.config.load import dump_config
from segzoo.data.labels import voc_palette
from segzoo.data.pixels import Pixels, as_picture
from segzoo.evaluation.classify.results import ClassEvaluation, ClassifiedImage
from segzoo.evaluation.files import REPORT
from segzoo.evaluation.report.curves import Panel, lay_out, read_series
from segzoo.evaluation.report.page import class_columns, css_color, panel_data
from segzoo.evaluation.report.pictures import photograph
from segzoo.evaluation.report.plots import confusion_figure, save_figure
from segzoo.evaluation.report.write import render_page
from segzoo.files import write_atomically
from segzoo.tasks.confusion import regions_of
from segzoo.tasks.metrics import main_metric

_SCRIPTS = ("theme.js", "classes.js", "confusion.js", "curves.js")
_WORST = 24
_SIDE = 256  # pixels of a picture's longer side
_COLORS = 255


@dataclass(frozen=True)
class _Picture:
    """One of the worst images and its picture as a data URI."""

    image: ClassifiedImage
    uri: str


def write_report(evaluation: ClassEvaluation, read: Callable[[int], Pixels]) -> Path:
    """Write report.html, one file that needs no other and no network, and plots/confusion.png.

    Args:
        evaluation: what was measured; says where to.
        read: gives an image of the split by its number; asked for the worst ones only.

    Returns:
        The page's path.
    """
    run_dir = run_dir_of(Path(evaluation.protocol.checkpoint))
    panels = [lay_out(series) for series in (read_series(run_dir / METRICS_CSV) if run_dir else [])]
    pictures = [_Picture(image, _thumbnail(read(image.index))) for image in evaluation.worst(_WORST)]
    if evaluation.labels.coding.exclusive:
        plots = evaluation.output / "plots"
        plots.mkdir(parents=True, exist_ok=True)
        title = "share of each true class's images"
        figure = confusion_figure(evaluation.labels.names, evaluation.matrix, title)
        save_figure(figure, plots / "confusion.png")
    path = evaluation.output / REPORT
    write_atomically(
        path,
        render_page("classification.html", _SCRIPTS, _content(evaluation, pictures, panels)).encode(
            errors="backslashreplace"
        ),
    )
    return path


def _content(evaluation: ClassEvaluation, pictures: list[_Picture], panels: list[Panel]) -> dict[str, Any]:
    """Everything that the template shows, by the names it uses."""
    labels = evaluation.labels
    palette = voc_palette(_COLORS + 1)[1:]
    classes = [{"name": name, "color": css_color(palette[k % _COLORS])} for k, name in enumerate(labels.names)]
    scores = {metric.report_title: metric.text(value) for metric, value in evaluation.measured.numbers()}
    headline = main_metric(evaluation.config, labels).title
    return {
        "evaluation": evaluation,
        "protocol": evaluation.protocol,
        "headline": headline,
        "score": scores.pop(headline),
        "scores": list(scores.items()),
        "facts": list(_facts(evaluation)),
        "classes": classes,
        "exclusive": labels.coding.exclusive,
        "unit": "images",
        "columns": class_columns(evaluation.measured, regions_of(evaluation.matrix)[1].tolist(), "Images"),
        "bars": False,
        "mean": None,
        "panels": panels,
        "pictures": pictures,
        "config": dump_config(evaluation.config),
        "command": evaluation.command,
        "data": {
            "classes": classes,
            "unit": "images",
            "matrix": evaluation.matrix.tolist() if labels.coding.exclusive else None,
            "panels": [panel_data(panel) for panel in panels],
        },
    }


def _facts(evaluation: ClassEvaluation) -> Iterator[tuple[str, str]]:
    """How it was measured."""
    protocol = evaluation.protocol
    yield "Data set", protocol.dataset
    yield "Split", protocol.split
    yield "Images", f"{evaluation.images:,}"
    yield "Checkpoint", protocol.checkpoint
    yield "Weights", protocol.weights
    if protocol.engine is not None:
        yield "Engine", protocol.engine
    yield "Seen", f"the central {100 * protocol.center_crop:g} % at {protocol.image_size[0]}×{protocol.image_size[1]}"
    yield "Report written", datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    yield "Versions", ", ".join(f"{name} {version}" for name, version in versions().items())


def _thumbnail(pixels: Pixels) -> str:
    picture = as_picture(pixels)
    height, width = picture.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    return photograph(picture, (max(1, round(width * scale)), max(1, round(height * scale))))
