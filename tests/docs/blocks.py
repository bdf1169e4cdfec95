"""The fenced blocks of a page, and the code within its lines."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w{}-]*) ?(?P<mark>.*)$")
_SPAN = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    `line` is the number of its first line; `mark` what follows the language: a reason not to run it, or "output".
    """

    page: Path
    line: int
    language: str
    mark: str
    text: str

    def __str__(self):
        return f"{self.page.name}:{self.line}"

    @property
    def commands(self):
        """Its commands, each as words; of a script for a batch system those that the shell runs."""
        joined = self.text.replace("\\\n", " ")
        return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def blocks_of(page):
    blocks, opened = [], None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened, first, lines = fence, number, []
        elif opened is not None and line.strip() == "```":
            text = "\n".join(one.removeprefix(opened["indent"]) for one in lines)
            blocks.append(Block(page, first, opened["language"], opened["mark"], text))
            opened = None
        elif opened is not None:
            lines.append(line)
    assert opened is None, f"{page.name}: a block has no end"
    return blocks


def spans_of(page, *, without_first_column=False):
    """(line number, code) of what stands between backticks outside of blocks."""
    fenced, spans = False, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fenced ^= line.strip().startswith("```")
        if fenced or line.strip().startswith("```"):
            continue
        if without_first_column and line.startswith("|"):
            line = line.split("|", 2)[2]
        spans += [(number, span) for span in _SPAN.findall(line)]
    return spans
