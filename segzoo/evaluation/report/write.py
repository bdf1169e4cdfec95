"""Writing the page: what every task shows on it, its template, style and scripts, and the plots beside it."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from segzoo.checkpoint.format import versions
from segzoo.checkpoint.metrics import METRICS_CSV
from segzoo.checkpoint.read import run_dir_of
from segzoo.config.load import dump_config
from segzoo.data.reading.pixels import Pixels
from segzoo.evaluation.report.pictures import Example
from segzoo.evaluation.report.plots import Panel, Series, lay_out, read_series, write_class_plots, write_plots
from segzoo.evaluation.report.task_pages import Page, class_page, mask_page
from segzoo.evaluation.results import REPORT, ClassEvaluation, Evaluation, Measurement
from segzoo.files import write_atomically
from segzoo.tasks.confusion import regions_of
from segzoo.tasks.metrics import Measured, percent


@dataclass(frozen=True)
class Column:
    """A score of every class; a first click sorts by the lowest where that is the best."""

    title: str
    meaning: str
    values: Sequence[float | None]
    texts: Sequence[str]
    lowest_first: bool = False


def write_report(evaluation: Evaluation, examples: Callable[[int], Example], output: Path) -> Path:
    """Write report.html of a segmenter, one file that needs no other and no network, and plots/*.png.

    Args:
        evaluation: what was measured.
        examples: image, truth and prediction of the image with that index; asked for the gallery's images only.
        output: folder, made where it is missing.

    Returns:
        The page's path.
    """
    curves = _curves(evaluation)
    write_plots(evaluation, curves, output / "plots")
    return _write(evaluation, mask_page(evaluation, examples), curves, output)


def write_class_report(evaluation: ClassEvaluation, read: Callable[[int], Pixels], output: Path) -> Path:
    """The same of a classifier, where `read` gives an image by its number; it is asked for the worst ones only."""
    write_class_plots(evaluation, output / "plots")
    return _write(evaluation, class_page(evaluation, read), _curves(evaluation), output)


def _curves(evaluation: Measurement) -> list[Series]:
    """Those of the run that a checkpoint lies in, if it lies in one."""
    run_dir = run_dir_of(Path(evaluation.protocol.checkpoint))
    return read_series(run_dir / METRICS_CSV) if run_dir else []


def _write(evaluation: Measurement, page: Page, curves: Sequence[Series], output: Path) -> Path:
    content = _page_content(evaluation, page, [lay_out(series) for series in curves])
    path = output / REPORT
    write_atomically(path, _render(page, content).encode(errors="backslashreplace"))
    return path


def _render(page: Page, content: Mapping[str, Any]) -> str:
    """The page with its style and scripts in it; no confusion matrix where classes do not exclude each other."""
    scripts = [_packaged(name) for name in page.scripts if name != "confusion.js" or content["exclusive"]]
    environment = Environment(
        loader=FunctionLoader(_packaged),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template(page.template).render(
        content,
        style=Markup(_packaged("report.css")),  # noqa: S704 - ours, and no part of it comes from a user
        scripts=[Markup(script) for script in scripts],  # noqa: S704
        script_hashes=" ".join(f"'{_digest(script)}'" for script in scripts),
    )


def _packaged(name: str) -> str:
    return files("segzoo.evaluation.report").joinpath("template", name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    """As a content security policy names a script that may run; a browser refuses every other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}"


def _page_content(evaluation: Measurement, page: Page, panels: Sequence[Panel]) -> dict[str, Any]:
    """Everything that the template shows, by the names it uses."""
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
    """The columns of the table of classes; `pixels` is how much of each the truth has, of this unit."""
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
