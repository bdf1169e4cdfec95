"""Text files that list a split, one sample a line."""

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from segzoo.data.labels import LabelSpace
from segzoo.data.listing import Listing, Problem
from segzoo.data.pairs import Pair, raise_all

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


@dataclass(frozen=True)
class SplitList:
    """What a split list holds, and what is wrong with it.

    Args:
        lines: its lines without those that are refused, each text once.
        problems: lines that are refused.
        warnings: lines that are there twice.
    """

    lines: tuple[ListedLine, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]

    def listing(
        self, pairs: Iterable[Pair], labels: LabelSpace | None, where: str, problems: Iterable[Problem] = ()
    ) -> Listing:
        """The pairs whose files are both there, with a problem for every file that is not.

        Args:
            pairs: what the lines name.
            labels: what the values in the masks mean; None where only the masks themselves tell.
            where: the split in words, for messages.
            problems: what else is wrong with the lines.
        """
        missing: list[Problem] = []
        present = []
        for pair in pairs:
            absent = list(_missing_files(pair))
            missing += absent
            if not absent:
                present.append(pair)
        return Listing(tuple(present), (*self.problems, *problems, *missing), where, labels, self.warnings)


def read_split_list(path: Path) -> list[ListedLine]:
    """The lines of a split list. Line endings of any system, a byte-order mark and blank lines are fine.

    A line that is there twice counts once, with a warning.

    Args:
        path: text file.

    Raises:
        DataError: a line leads out of the data set (`../`).
    """
    listed = scan_split_list(path)
    for warning in listed.warnings:
        logger.warning("%s", warning.line)
    raise_all([problem.line for problem in listed.problems])
    return list(listed.lines)


def scan_split_list(path: Path) -> SplitList:
    """As `read_split_list`, with everything that is wrong collected instead of raised.

    Args:
        path: text file.
    """
    lines: dict[str, ListedLine] = {}
    problems, warnings = [], []
    # utf-8-sig drops the byte-order mark; bytes that are no UTF-8 stay visible in the message about the file.
    content = path.read_text(encoding="utf-8-sig", errors="backslashreplace")
    for number, line in enumerate(content.splitlines(), start=1):
        text = line.strip()
        listed = ListedLine(text, f"{path}:{number}")
        if ".." in re.split(r"[\s/\\]+", text):
            problems.append(Problem("refused line", f"{listed.place}: '{text}' leads out of the data set; remove '..'"))
        elif text in lines:
            warnings.append(Problem("duplicate line", f"{listed.place}: '{text}' is listed twice; counted once"))
        elif text:
            lines[text] = listed
    return SplitList(tuple(lines.values()), tuple(problems), tuple(warnings))


def _missing_files(pair: Pair) -> Iterator[Problem]:
    for kind, path in (("image", pair.image), *(("mask", mask) for mask in pair.mask_files)):
        if not path.is_file():
            yield Problem(f"missing {kind}", f"{pair.place}: no {kind} {path}. Add the file or take the line out.")
