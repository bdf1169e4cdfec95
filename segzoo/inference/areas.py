"""How many pixels of each class every image has, in one table."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from segzoo.data.whole_file import write_whole

_SHARE = re.compile(r"\d\.\d{6}")
_HEADER = ["image", "class", "pixels", "share"]


class AreaTable:
    """A CSV with a row for each image and class: pixels, and their share of the image.

    Rows are added as images are done, so that a killed run can go on; at the end the table is put into the images'
    order.

    Args:
        path: the file.
        names: of the classes.
        keep: take over the images that the file has already; else it starts anew.
    """

    def __init__(self, path: Path, names: Sequence[str], *, keep: bool) -> None:
        self._path = path
        self._names = list(names)
        self._entries = self._read() if keep and path.is_file() else {}
        self._file: TextIO | None = None

    def __enter__(self) -> "AreaTable":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._rewrite(self._entries)  # without what a killed run began last
        self._file = self._path.open("a", encoding="utf-8", newline="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __contains__(self, image: str) -> bool:
        return image in self._entries

    def add(self, image: str, counts: Sequence[int], size: int) -> None:
        """Append an image's rows; `size` is the number of its pixels."""
        self._entries[image] = [[str(count), f"{count / size:.6f}"] for count in counts]
        if self._file is not None:
            self._file.write(self._rows(image))
            self._file.flush()

    def finish(self, order: Iterable[str]) -> None:
        """Put the rows into order, without images that are not in it."""
        self._rewrite(image for image in order if image in self._entries)

    def _rewrite(self, images: Iterable[str]) -> None:
        write_whole(self._path, "".join([_line(_HEADER), *map(self._rows, images)]).encode())

    def _rows(self, image: str) -> str:
        entries = zip(self._names, self._entries[image], strict=True)
        return "".join(_line([image, name, *entry]) for name, entry in entries)

    def _read(self) -> dict[str, list[list[str]]]:
        """Images whose rows are all there; the last line may have been cut off."""
        rows: dict[str, dict[str, list[str]]] = {}
        for line in csv.reader(self._path.read_text("utf-8", "replace").splitlines(keepends=True)[1:]):
            if len(line) == len(_HEADER) and _SHARE.fullmatch(line[3]):
                rows.setdefault(line[0], {})[line[1]] = line[2:]
        return {image: list(found.values()) for image, found in rows.items() if list(found) == self._names}


def _line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
