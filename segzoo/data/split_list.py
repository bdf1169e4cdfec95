"""Text files that list a split, one sample a line."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from segzoo.data.pairs import raise_all

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListedLine:
    """One line of a split list.

    Args:
        text: the line without surrounding blanks.
        place: file and line number, for messages.
    """

    text: str
    place: str


def read_split_list(path: Path) -> list[ListedLine]:
    """The lines of a split list. Line endings of any system, a byte-order mark and blank lines are fine.

    A line that is there twice counts once, with a warning.

    Args:
        path: text file.

    Raises:
        DataError: a line leads out of the data set (`../`), or the file is no text.
    """
    lines: dict[str, ListedLine] = {}
    problems = []
    # utf-8-sig drops the byte-order mark; bytes that are no UTF-8 stay visible in the message about the file.
    content = path.read_text(encoding="utf-8-sig", errors="backslashreplace")
    for number, line in enumerate(content.splitlines(), start=1):
        text = line.strip()
        listed = ListedLine(text, f"{path}:{number}")
        if ".." in re.split(r"[\s/\\]+", text):
            problems.append(f"{listed.place}: '{text}' leads out of the data set; remove '..'")
        elif text in lines:
            logger.warning("%s: '%s' is listed twice; counted once", listed.place, text)
        elif text:
            lines[text] = listed
    raise_all(problems)
    return list(lines.values())
