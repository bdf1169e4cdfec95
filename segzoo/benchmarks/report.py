"""What a benchmark found: a Markdown table to read, and rows for a JSON file."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

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


@dataclass(frozen=True)
class Report:
    """A part that was measured.

    Args:
        part: its name.
        table: Markdown.
        rows: dataclasses, for JSON.
        notes: what one has to know beside the table, a line each; the machine is one.
        facts: for JSON, beside the rows.
    """

    part: str
    table: str
    rows: Sequence[Any]
    notes: tuple[str, ...]
    facts: Mapping[str, Any]

    def markdown(self) -> str:
        """The table, and the notes below it."""
        return "\n".join([self.table, "", *(f"* {note}" for note in self.notes)])

    def json(self) -> str:
        """Everything, for a program to read."""
        tree = {"part": self.part, **self.facts, "notes": self.notes, "rows": [asdict(row) for row in self.rows]}
        return json.dumps(tree, indent=2) + "\n"


def markdown_table(columns: Sequence[Column[R]], rows: Sequence[R]) -> str:
    """A Markdown table.

    >>> print(markdown_table([Column("name", str, words=True), Column("length", lambda row: f"{len(row)}")], ["ab"]))
    | name | length |
    | --- | ---: |
    | ab | 2 |
    """
    lines = [[column.heading for column in columns], ["---" if column.words else "---:" for column in columns]]
    lines += [[column.text(row) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
