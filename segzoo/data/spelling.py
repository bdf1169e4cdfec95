"""What a line of a list may mean: names as Windows, macOS and spreadsheets write them."""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from segzoo.data.tree import composed


def find_named(text: str, folder: Path, files: Mapping[str, Path]) -> Path | None:
    """The file that a list means: by its path from its folder or from any folder above that, with or without ending."""
    for spelling in spellings(text):
        for path in _from_folder(PurePosixPath(spelling), folder):
            found = files.get(path) or files.get(os.path.splitext(path)[0])  # noqa: PTH122 (a name may be empty)
            if found is not None:
                return found
    return None


def unquoted(text: str) -> str:
    """A name without the quotation marks around it."""
    inner = text[1:-1]
    return inner if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in inner else text


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


def halves(text: str) -> Iterator[tuple[str, str]]:
    """The ways in which a line may be an image and its mask, with a blank, a tab, a comma or a semicolon between."""
    for mark in re.finditer(r"\s*[,;]\s*|\s+", text):
        yield unquoted(text[: mark.start()].strip()), unquoted(text[mark.end() :].strip())


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


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
