"""Text files of others: names of classes, lists, tables."""

import codecs
from pathlib import Path

from segzoo.errors import DataError


def text_of(path: Path, *, any_bytes: bool = False) -> str:
    """The text of a file in UTF-8, also with a byte-order mark, or in UTF-16 with one, as Windows' programs write it.

    Args:
        path: the file.
        any_bytes: keep bytes that are no UTF-8 as `os.fsdecode` does, for the names of files may hold any.

    Raises:
        DataError: the file cannot be read, or is no such text.
    """
    try:
        content = path.read_bytes()
        utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        errors = "surrogateescape" if any_bytes and not utf16 else "strict"
        text = content.decode("utf-16" if utf16 else "utf-8-sig", errors)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: no UTF-8 text; save it as UTF-8") from None
    if "\0" in text:
        raise DataError(f"{path}: no text, for it holds zero bytes; save it as UTF-8")
    return text
