"""Names that mean something to YAML, rich, CSV, Markdown or HTML come out as the names they are."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image
from rich.table import Table

from segzoo.checkpoint.card import model_card
from segzoo.checkpoint.read import load_segmenter
from segzoo.config.load import load_config
from segzoo.data.inspection.make_config import make_config
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import printable
from segzoo.escapes import Column, csv_line, markdown_table, terminal
from segzoo.evaluation.evaluate import evaluate
from segzoo.progress import item_bar
from segzoo.training.train import TrainResult

HOSTILE = (
    "[/x]",
    "[unlabelled]",
    ":smile:",
    "road\nrun_dir: elsewhere",
    "road\u2028run_dir: elsewhere",
    "# no comment",
    "a: b",
    "=1+1",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "`code` **bold** | bar",
    "```",
    "null",
    " spaces ",
    "Straße_é",
)


def overlapping_classes(root: Path, names: Sequence[str]) -> Path:
    """Splits whose masks lie in a folder for each class, named after it."""
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            for place, name in enumerate(("images", *(f"masks/{name}" for name in names))):
                pixels = np.random.default_rng([number, count]).integers(0, 255, (48, 64, 3)).astype(np.uint8)
                plane = np.zeros((48, 64), np.uint8)
                plane[place : place + 20, :30] = 255
                path = root / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels if name == "images" else plane).save(path)
    return root


def test_folders_of_classes_become_a_configuration_with_these_names_only(
    tmp_path: Path, call_tool: Callable[..., object]
) -> None:
    names = sorted(name for name in HOSTILE if "/" not in name and name != " spaces ")
    root = overlapping_classes(tmp_path / "data\nrun_dir: root", names)
    made = make_config(root, tmp_path / "made.yaml", progress=False)
    config = load_config(made.path)
    assert sorted(config.data.classes) == sorted(map(printable, names))
    assert (config.run_dir, config.data.root) == (None, str(root))
    done = call_tool("check_data.py", made.path, "--output", tmp_path / "sheet")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert all(name in done.stdout for name in ("[unlabelled]", ":smile:"))


def test_training_ends_well_with_a_class_called_like_markup(tmp_path: Path, call_tool: Callable[..., object]) -> None:
    root = tmp_path / "data"
    for split in ("train", "val"):
        for number in range(2):
            mask = np.zeros((48, 64), np.uint8)
            mask[:, 20:40], mask[:, 40:] = 1, 2
            for name, pixels in (("images", np.repeat(mask[..., None] * 90, 3, 2)), ("masks", mask)):
                path = root / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    changes = ["data.name=folder", f"data.root={root}", "data.classes=['[/x]','[unlabelled]',':car:']"]
    small = ["model.backbone.width=0.1", "data.crop_size=48", "data.batch_size=2", "trainer.max_steps=1"]
    done = call_tool("train.py", "configs/quickstart.yaml", *changes, *small, f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    for name in ("[/x]", "[unlabelled]", ":car:"):
        assert name in done.stdout


def test_tables_of_an_evaluation_show_every_name(
    tiny_run: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(tiny_run.run_dir, output=tmp_path / "out")
    names = ("[/x]", "[unlabelled]", ":smile:", "[b]", *(f"[/{number}]" for number in range(20)))
    images = tuple(replace(image, id=f"[/{image.index}]") for image in found.per_image)
    labels = LabelSpace.from_names(names[: found.labels.num_classes])
    hostile = replace(found, measured=replace(found.measured, labels=labels), per_image=images)
    terminal().print(*hostile.tables(worst=3), sep="\n")
    shown = capsys.readouterr().out
    assert all(name in shown for name in hostile.labels.names)
    assert "[/0]" in shown or "[/1]" in shown


def test_a_name_does_not_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("class")
    table.add_row("\x1b[2J\x07road")
    terminal().print(table, "\x9b31mx\x00\nnext")
    shown = capsys.readouterr().out
    assert "\\x1b[2J\\x07road" in shown
    assert "\\x9b31mx\\x00\nnext" in shown
    assert all(sign.isprintable() or sign == "\n" for sign in shown)


def test_a_file_called_like_markup_has_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take standard error for a terminal
    with item_bar("segmenting [/x].tif", 2) as move_to:
        move_to(1)
    assert "[/x].tif" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*HOSTILE, "-2", "@x", "\t=x", "'=x", "+", "|"])
def test_no_cell_is_a_formula_and_each_is_told_from_the_others(name: str) -> None:
    (cell, number), *_ = csv.reader(io.StringIO(csv_line([name, -0.5]), newline=""))
    assert cell[0] not in "=+-@\t\r"
    assert (cell in (name, f"'{name}"), number) == (True, "-0.5")
    assert csv_line([f"'{name}"]) != csv_line([name])


class Cells(HTMLParser):
    """The tags of a page, and the text of its table cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.is_in_cell = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag == "td":
            self.cells.append("")
            self.is_in_cell = True

    def handle_data(self, data: str) -> None:
        if self.is_in_cell:
            self.cells[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.is_in_cell = self.is_in_cell and tag != "td"


def rendered(markdown: str) -> Cells:
    """As a renderer shows it that lets HTML through."""
    page = Cells()
    page.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))
    return page


@pytest.mark.parametrize("name", HOSTILE)
def test_a_cell_of_a_markdown_table_is_the_name(name: str) -> None:
    page = rendered(
        markdown_table([Column("class", str, words=True), Column("length", lambda text: str(len(text)))], [name])
    )
    assert not {"img", "a", "code", "strong", "em"} & set(page.tags)
    assert page.cells[0].strip() == printable(name).strip()


def test_the_model_card_shows_names_as_text(tiny_run: TrainResult) -> None:
    source = load_segmenter(tiny_run.run_dir)
    hostile = (
        "<img src=x onerror=alert(1)>",
        "</details><script>alert(1)</script>",
        "[x](http://y)",
        "a\n\n# b",
        "```",
    )
    names = (*hostile, *(f"<b>{number}" for number in range(20)))
    labels = LabelSpace.from_names(names[: source.labels.num_classes])
    own = replace(source, description=replace(source.description, labels=labels))
    data = source.config.data.model_copy(update={"train_split": "a\n```\n<script>alert(1)</script>"})
    page = rendered(model_card(own, source.config.model_copy(update={"data": data}), "<b>model</b>"))
    assert not {"img", "script", "a", "b"} & set(page.tags) - {"a"}
    assert page.tags.count("a") == 1  # segzoo's own
    for name in labels.names:
        assert printable(name) in page.cells
