"""Writing the page and its plots."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from segzoo.checkpoint.metrics import METRICS_CSV
from segzoo.checkpoint.read import run_dir_of
from segzoo.data.reading.pixels import Pixels
from segzoo.evaluation.report.curves import Series, lay_out, read_series
from segzoo.evaluation.report.page import Page, page_content
from segzoo.evaluation.report.pictures import Example
from segzoo.evaluation.report.plots import write_class_plots, write_plots
from segzoo.evaluation.report.task_pages import class_page, mask_page
from segzoo.evaluation.results import REPORT, ClassEvaluation, Evaluation, Measurement
from segzoo.files import write_atomically
from segzoo.tasks.metrics import percent


def write_report(evaluation: Evaluation, examples: Callable[[int], Example], output: Path) -> Path:
    """Write report.html, one file that needs no other and no network, and plots/*.png.

    Args:
        evaluation: what was measured of a segmenter.
        examples: image, truth and prediction of the image with that index; asked for the gallery's images only.
        output: folder, made where it is missing.

    Returns:
        The page's path.
    """
    curves = _curves(evaluation)
    write_plots(evaluation, curves, output / "plots")
    return _write(evaluation, mask_page(evaluation, examples), curves, output)


def write_class_report(evaluation: ClassEvaluation, read: Callable[[int], Pixels], output: Path) -> Path:
    """Write report.html, as `write_report` does, and plots/confusion.png.

    Args:
        evaluation: what was measured of a classifier.
        read: gives an image of the split by its number; asked for the worst ones only.
        output: folder, made where it is missing.
    """
    write_class_plots(evaluation, output / "plots")
    return _write(evaluation, class_page(evaluation, read), _curves(evaluation), output)


def _curves(evaluation: Measurement) -> list[Series]:
    """Those of the run that a checkpoint lies in, if it lies in one."""
    run_dir = run_dir_of(Path(evaluation.protocol.checkpoint))
    return read_series(run_dir / METRICS_CSV) if run_dir else []


def _write(evaluation: Measurement, page: Page, curves: Sequence[Series], output: Path) -> Path:
    content = page_content(evaluation, page, [lay_out(series) for series in curves])
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
