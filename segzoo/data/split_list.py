"""Text files that list a split, one sample a line, as any system and editor write them."""

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from segzoo.data.labels import LabelSpace
from segzoo.data.listing import Listing, Problem
from segzoo.data.pairs import Pair, raise_all
from segzoo.data.spelling import unquoted
from segzoo.data.tree import is_file
from segzoo.errors import in_groups
from segzoo.files import text_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListedLine:
    """One line of a split list.

    Args:
        text: the line without surrounding blanks and quotation marks.
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
        self,
        pairs: Iterable[Pair],
        labels: LabelSpace | None,
        where: str,
        problems: Iterable[Problem] = (),
        warnings: Iterable[Problem] = (),
    ) -> Listing[Pair]:
        """The pairs whose files are both there, with a problem for every file that is not.

        Args:
            pairs: what the lines name.
            labels: what the values in the masks mean; None where only the masks themselves tell.
            where: the split in words, for messages.
            problems: what else is wrong with the lines.
            warnings: what else is odd about them.
        """
        missing: list[Problem] = []
        present = []
        for pair in pairs:
            absent = list(_missing_files(pair))
            missing += absent
            if not absent:
                present.append(pair)
        faults = (*self.problems, *problems, *missing)
        return Listing(tuple(present), faults, where, labels, (*self.warnings, *warnings))


def read_split_list(path: Path) -> list[ListedLine]:
    """The lines of a split list, as `numbered_lines` reads them; one that is there twice counts once, with a warning.

    Args:
        path: text file.

    Raises:
        DataError: a line leads out of the data set (`../`), or the file is no text.
    """
    listed = scan_split_list(path)
    for warning in in_groups(warning.line for warning in listed.warnings):
        logger.warning("%s", warning)
    raise_all([problem.line for problem in listed.problems])
    return list(listed.lines)


def scan_split_list(path: Path) -> SplitList:
    """As `read_split_list`, with everything that is wrong with lines collected instead of raised.

    Args:
        path: text file.

    Raises:
        DataError: the file is no text.
    """
    lines: dict[str, ListedLine] = {}
    problems, warnings = [], []
    for number, text in numbered_lines(path):
        listed = ListedLine(text, f"{path}:{number}")
        if ".." in re.split(r"[\s/\\]+", text):
            problems.append(Problem("refused line", f"{listed.place}: '{text}' leads out of the data set; remove '..'"))
        elif text in lines:
            warnings.append(listed_twice(listed))
        else:
            lines[text] = listed
    return SplitList(tuple(lines.values()), tuple(problems), tuple(warnings))


def listed_twice(line: ListedLine) -> Problem:
    """The warning about a line that names what an earlier one has named."""
    return Problem("duplicate line", f"{line.place}: '{line.text}' is listed twice; counted once")


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a list of files with their numbers, without blank ones, and without quotation marks around them.

    UTF-8 and UTF-16, line ends of any system. Bytes that are no UTF-8 are kept as names of files have them.

    Raises:
        DataError: the file cannot be read or is no text.
    """
    lines = re.split(r"\r\n|\r|\n", text_of(path, any_bytes=True))
    stripped = ((number, unquoted(line.strip())) for number, line in enumerate(lines, start=1))
    return [(number, line) for number, line in stripped if line]


def _missing_files(pair: Pair) -> Iterator[Problem]:
    for kind, path in (("image", pair.image), *(("mask", mask) for mask in pair.mask_files)):
        if not is_file(path):
            yield Problem(f"missing {kind}", f"{pair.place}: no {kind} {path}. Add the file or take the line out.")
