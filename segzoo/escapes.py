"""Names of classes and files are text, never markup: the one way to write them into each medium.

A name may hold anything: brackets, line ends, `=1+1`, `<b>`. Of YAML, Markdown, CSV and the terminal, each has other
characters that mean something; HTML is escaped by its templates, and plots take names with `parse_math=False`.
"""

import csv
import html
import io
import json
import re
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from segzoo.errors import printable

_FORMULA = re.compile(r"'*[=+\-@\t\r]")  # what spreadsheets take for a formula, or once did and got a quote for it
_MARKDOWN = re.compile(r"([\\`*_\[\]|~$])")
_MARKDOWN_INSIDE = re.compile(r"(?<=\w)\\_(?=\w)")  # an underscore within a word means nothing
_PLAIN_YAML = re.compile(r"[A-Za-z_]([\w ./+-]*[\w./+-])?")
_YAML_RESERVED = frozenset({"null", "true", "false"})


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


def terminal(*, stderr: bool = False) -> Console:
    """A terminal, or a file in its place, to which brackets and colons in tables and bars are text."""
    return _Console(stderr=stderr, markup=False, emoji=False)


class _Console(Console):
    """A terminal that shows characters which would command it as what they are; lines still end."""

    def render_str(self, text: str, **style: Any) -> Text:
        """As rich does it, for texts and for cells of tables."""
        return super().render_str("\n".join(map(printable, text.split("\n"))), **style)


def _no_formula(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def _yaml_escape(sign: str) -> str:
    return f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"
