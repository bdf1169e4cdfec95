"""Which samples are in a split: lists of names as any system and editor write them, and what is held out."""

import hashlib
import math
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from segzoo.data.datasets.listing import Listing, Pair, Problem
from segzoo.data.datasets.spec import unknown_split
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.tree import composed, is_file
from segzoo.files import text_of


class ListedLine(NamedTuple):
    """One line of a split list, without blanks and quotation marks around it, and its file and number for messages."""

    text: str
    place: str

    @property
    def posix(self) -> str:
        """The text with `/` where Windows has a backslash."""
        return self.text.replace("\\", "/")


@dataclass(frozen=True)
class SplitList:
    """What a split list holds: its lines, each text once, those that are refused, and those that are there twice."""

    path: Path
    lines: tuple[ListedLine, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]

    def listing(
        self, found: Iterable[Pair | Problem], labels: LabelSpace | None, warnings: Iterable[Problem] = ()
    ) -> Listing[Pair]:
        """The pairs whose files are both there, with a problem for every file that is not.

        Args:
            found: what the lines name, or what is wrong with them.
            labels: as in `Listing`.
            warnings: what else is odd about the lines.
        """
        pairs, refused, missing = [], [], []
        for item in found:
            if isinstance(item, Problem):
                refused.append(item)
            elif absent := list(_missing_files(item)):
                missing += absent
            else:
                pairs.append(item)
        problems = (*self.problems, *refused, *missing)
        return Listing(tuple(pairs), problems, str(self.path), labels, (*self.warnings, *warnings))


def list_of_split(lists: Mapping[str, Path], split: str, where: Path, instead: str = "") -> SplitList:
    """The list of a split among `lists`, which are files by the names of their splits; `instead` as in `unknown_split`.

    Raises:
        ConfigError: no list has this name in the folder `where`.
    """
    if split not in lists:
        raise unknown_split(split, list(lists), str(where), instead)
    return scan_split_list(lists[split])


def read_split_list(path: Path) -> tuple[ListedLine, ...]:
    """The lines of a split list, as `numbered_lines` reads them; one that is there twice counts once, with a warning.

    Raises:
        DataError: a line leads out of the data set (`../`), or the file is no text.
    """
    listed = scan_split_list(path)
    listed.listing((), None).checked()
    return listed.lines


def scan_split_list(path: Path) -> SplitList:
    """As `read_split_list`, with everything that is wrong with lines collected instead of raised."""
    lines: dict[str, ListedLine] = {}
    problems, warnings = [], []
    for number, text in numbered_lines(path):
        listed = ListedLine(text, f"{path}:{number}")
        if ".." in re.split(r"[\s/\\]+", text):
            problems.append(Problem("refused line", f"{listed.place}: '{text}' leads out of the data set; remove '..'"))
        elif text in lines:
            warnings.append(listed_twice(*listed))
        else:
            lines[text] = listed
    return SplitList(path, tuple(lines.values()), tuple(problems), tuple(warnings))


def listed_twice(text: str, place: str) -> Problem:
    """The warning about a line that names what an earlier one has named."""
    return Problem("duplicate line", f"{place}: '{text}' is listed twice; counted once")


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a list of files with their numbers, without blank ones, and without quotation marks around them.

    UTF-8 and UTF-16, line ends of any system. Bytes that are no UTF-8 are kept as names of files have them.

    Raises:
        DataError: the file cannot be read or is no text.
    """
    lines = re.split(r"\r\n|\r|\n", text_of(path, any_bytes=True))
    stripped = ((number, _unquoted(line.strip())) for number, line in enumerate(lines, start=1))
    return [(number, line) for number, line in stripped if line]


def _unquoted(text: str) -> str:
    inner = text[1:-1]
    return inner if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in inner else text


def _missing_files(pair: Pair) -> Iterator[Problem]:
    for kind, path in (("image", pair.image), *(("mask", mask) for mask in pair.mask_files)):
        if not is_file(path):
            yield Problem(f"missing {kind}", f"{pair.place}: no {kind} {path}. Add the file or take the line out.")


def find_named(text: str, folder: Path, files: Mapping[str, Path]) -> Path | None:
    """The file that a list means: by its path from its folder or from any folder above that, with or without ending."""
    for spelling in spellings(text):
        for path in _from_folder(PurePosixPath(spelling), folder):
            found = files.get(path) or files.get(os.path.splitext(path)[0])  # noqa: PTH122 (a name may be empty)
            if found is not None:
                return found
    return None


def spellings(text: str) -> list[str]:
    r"""What a line may mean: itself first, then with `/` for Windows' `\`, and letters as other systems write them.

    >>> spellings("day\\a"), spellings("a")
    (['day\\a', 'day/a'], ['a'])
    """
    raw = text.encode("utf-8", "surrogateescape")
    texts = [text, *([] if _is_utf8(raw) else [raw.decode("cp1252", "replace")])]  # as Windows' "ANSI" has letters
    found = [form for text in texts for form in (text, text.replace("\\", "/"))]
    found += [unicodedata.normalize(kind, form) for kind in ("NFC", "NFD") for form in found]
    return list(dict.fromkeys(found))


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def split_in_two(text: str) -> Iterator[tuple[str, str]]:
    """The ways in which a line may be an image and its mask, with a blank, a tab, a comma or a semicolon between."""
    for mark in re.finditer(r"\s*[,;]\s*|\s+", text):
        yield _unquoted(text[: mark.start()].strip()), _unquoted(text[mark.end() :].strip())


def _from_folder(path: PurePosixPath, folder: Path) -> Iterator[str]:
    """What a path is below a folder, if it begins with the last parts of the folder's own or with none."""
    if not path.is_absolute():
        yield composed(path.as_posix())
    parts = [composed(part) for part in path.parts]
    for start in {os.path.abspath(folder), os.path.realpath(folder)}:  # noqa: PTH100 (one keeps links)
        above = [composed(part) for part in Path(start).parts]
        for count in range(1, min(len(above), len(parts) - 1) + 1):
            if parts[:count] == above[-count:]:
                yield "/".join(parts[count:])


def smallest_hashes(ids: Sequence[str], share: float, seed: int) -> list[str]:
    """The share of the ids, rounded up, that has the smallest hashes; another seed takes others.

    It is the same on every machine, and nearly the same when ids are added.
    """
    prefix = f"{seed}/".encode() if seed else b""
    ranked = sorted(ids, key=lambda name: hashlib.sha256(prefix + os.fsencode(name)).digest())
    # As a fraction of decimals, for in binary 25 * 0.28 is a little above 7.
    return ranked[: math.ceil(len(ranked) * Fraction(str(share)))]


def held_out_of_each(ids: Sequence[str], groups: Sequence[Hashable], share: float, seed: int) -> set[str]:
    """The share of each group (an image's class, or classes), but never all of it: a group of one image is trained on.

    >>> sorted(held_out_of_each(["a", "b", "c", "d", "e"], ["cat", "cat", "cat", "cat", "dog"], share=0.5, seed=0))
    ['c', 'd']
    """
    members: dict[Hashable, list[str]] = defaultdict(list)
    for name, group in zip(ids, groups, strict=True):
        members[group].append(name)
    return {name for names in members.values() for name in smallest_hashes(names, share, seed)[: len(names) - 1]}
