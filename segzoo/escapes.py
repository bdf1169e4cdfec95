"""The one way to write names of classes and files into each medium, for they are text and never markup.

A name may hold anything: brackets, line ends, `=1+1`, `<b>`. YAML, Markdown, CSV and the terminal, with its
log, each give other characters a meaning; HTML is escaped by its templates, and plots take names with
`parse_math=False`.
"""

import csv
import html
import io
import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from segzoo.errors import printable

_FORMULA = re.compile(r"'*[=+\-@\t\r]")  # what spreadsheets take for a formula, or once did and got a quote for it
_MARKDOWN = re.compile(r"([\\`*_\[\]|~$])")
_MARKDOWN_INSIDE = re.compile(r"(?<=\w)\\_(?=\w)")  # an underscore within a word means nothing
_PLAIN_YAML = re.compile(r"[A-Za-z_]([\w ./+-]*[\w./+-])?")
_YAML_RESERVED = frozenset({"null", "true", "false"})

R = TypeVar("R")


def yaml_value(value: object) -> str:
    r"""A value as YAML on one line.

    >>> yaml_value("road"), yaml_value("road: 1 #"), yaml_value("a\u2028b"), yaml_value([0, 255])
    ('road', '"road: 1 #"', '"a\\u2028b"', '[0, 255]')
    """
    if isinstance(value, str) and _PLAIN_YAML.fullmatch(value) and value.lower() not in _YAML_RESERVED:
        return value
    text = json.dumps(value, ensure_ascii=False)  # JSON is YAML, but for characters that end a line in YAML alone
    return "".join(sign if sign.isprintable() else _yaml_escape(sign) for sign in text)


def csv_line(cells: Sequence[object]) -> str:
    r"""A line of a table; names that a spreadsheet would take for a formula get a quote in front.

    >>> csv_line(["=1+1", -0.5, "road, wet", None])
    '\'=1+1,-0.5,"road, wet",\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([_no_formula(cell) for cell in cells])
    return text.getvalue()


def markdown_text(name: str) -> str:
    r"""A name in Markdown, on one line.

    >>> markdown_text("<b>a|b</b> _c_ road_sign")
    '&lt;b&gt;a\\|b&lt;/b&gt; \\_c\\_ road_sign'
    """
    escaped = _MARKDOWN.sub(r"\\\1", html.escape(printable(name), quote=False))
    return _MARKDOWN_INSIDE.sub("_", escaped)


@dataclass(frozen=True)
class Column(Generic[R]):
    """A column of a table.

    Args:
        text: what it shows of a row.
        words: whether it holds words, which stand left; numbers stand right.
    """

    heading: str
    text: Callable[[R], str]
    words: bool = False


def markdown_table(columns: Sequence[Column[R]], rows: Sequence[R]) -> str:
    r"""A table; its cells are text, whatever they hold.

    >>> print(markdown_table([Column("name", str, words=True), Column("length", lambda row: f"{len(row)}")], ["a|b"]))
    | name | length |
    | --- | ---: |
    | a\|b | 3 |
    """
    rule = ["---" if column.words else "---:" for column in columns]
    cells = [[column.heading for column in columns], *([column.text(row) for column in columns] for row in rows)]
    heading, *body = ([markdown_text(cell) for cell in line] for line in cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, rule, *body))


def terminal(*, stderr: bool = False) -> Console:
    """A terminal, or a file in its place, to which brackets and colons in tables and bars are text."""
    return _Console(stderr=stderr, markup=False, emoji=False)


class _Console(Console):
    """A terminal that shows characters which would command it as what they are; lines still end."""

    def render_str(self, text: str, **style: Any) -> Text:
        """Rich calls it for texts and for cells of tables."""
        return super().render_str("\n".join(map(printable, text.split("\n"))), **style)


def show_log(*, anew: bool = False) -> None:
    """Show messages of the package on standard error, where nobody has said how to show them.

    A handler or a level that somebody gave to the logger `segzoo`, and a handler of all loggers, stay as they are:
    `logging.getLogger("segzoo").setLevel(logging.WARNING)` before the call makes it quiet.

    Args:
        anew: in place of whatever was said, as a command does, to which standard error belongs.
    """
    logger = logging.getLogger("segzoo")
    if anew:
        logger.handlers, logger.propagate = [], False
        logger.setLevel(logging.NOTSET)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if logger.hasHandlers():
        return
    console = terminal(stderr=True)
    handler: logging.Handler = logging.StreamHandler()  # a log file gets lines that are neither wrapped nor padded
    if console.is_terminal:
        handler = RichHandler(console=console, show_time=False, show_level=False, show_path=False)
    logger.addHandler(handler)
    logger.propagate = False


def _no_formula(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def _yaml_escape(sign: str) -> str:
    return f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"
