"""Tables in Markdown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from segzoo.escapes import markdown_text

R = TypeVar("R")


@dataclass(frozen=True)
class Column(Generic[R]):
    """A column of a table.

    Args:
        heading: of it.
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
    cells = [[column.text(row) for column in columns] for row in rows]
    lines = [_escaped([column.heading for column in columns]), rule, *map(_escaped, cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(cells: Sequence[str]) -> list[str]:
    return [markdown_text(cell) for cell in cells]
