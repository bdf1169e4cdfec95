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
from segzoo.evaluation.files import REPORT
from segzoo.evaluation.report.choice import choose
from segzoo.evaluation.report.curves import lay_out, read_series
from segzoo.evaluation.report.page import Picture, page_content
from segzoo.evaluation.report.pictures import Example, encode_layers
from segzoo.evaluation.report.plots import write_plots
from segzoo.evaluation.results import Evaluation
from segzoo.files import write_atomically
from segzoo.tasks.table import percent

_SCRIPTS = ("theme.js", "classes.js", "confusion.js", "curves.js", "gallery.js")


def write_report(evaluation: Evaluation, examples: Callable[[int], Example], output: Path) -> Path:
    """Write report.html, one file that needs no other and no network, and plots/*.png.

    Args:
        evaluation: what was measured.
        examples: image, truth and prediction of the image with that index; asked for the gallery's images only.
        output: folder, made where it is missing.

    Returns:
        The page's path.
    """
    run_dir = run_dir_of(Path(evaluation.protocol.checkpoint))
    curves = read_series(run_dir / METRICS_CSV) if run_dir else []
    pictures = [
        Picture(chosen, encode_layers(examples(chosen.score.index), evaluation.labels)) for chosen in choose(evaluation)
    ]
    write_plots(evaluation, curves, output / "plots")
    content = page_content(evaluation, pictures, [lay_out(series) for series in curves])
    page = render_page("report.html", _SCRIPTS, content)
    path = output / REPORT
    write_atomically(path, page.encode(errors="backslashreplace"))
    return path


def render_page(template: str, scripts: Sequence[str], content: Mapping[str, Any]) -> str:
    """A page with its style and scripts in it.

    Args:
        template: name of the page's file.
        scripts: names of their files; the confusion matrix's is left out where classes do not exclude each other.
        content: what the template shows, by the names it uses.
    """
    scripts = [_packaged(name) for name in scripts if name != "confusion.js" or content["exclusive"]]
    environment = Environment(
        loader=FunctionLoader(_packaged),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template(template).render(
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
