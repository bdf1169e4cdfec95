"""What a benchmark found: a Markdown table to read, and rows for a JSON file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


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
