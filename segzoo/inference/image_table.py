"""A table with rows for each image, which survives a run that is killed."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from segzoo.data.whole_file import write_whole

Row = list[str]


class ImageTable:
    """A CSV with one or more rows for each image; the first column is the image.

    Rows are added as images are done, so that a killed run can go on; at the end the table is put into the images'
    order.

    Args:
        path: the file.
        header: of the columns, the image's first.
        is_whole: whether the rows of an image, without its name, are all there and none is cut off.
        keep: take over the images that the file has already; else it starts anew.
    """

    def __init__(self, path: Path, header: Sequence[str], is_whole: Callable[[list[Row]], bool], *, keep: bool) -> None:
        self._path = path
        self._header = list(header)
        self._is_whole = is_whole
        self._entries = self._read() if keep and path.is_file() else {}
        self._file: TextIO | None = None

    def __enter__(self) -> "ImageTable":
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

    def rows(self, image: str) -> list[Row]:
        """The rows of an image that is there, without its name."""
        return self._entries[image]

    def write(self, image: str, rows: list[Row]) -> None:
        """Append an image's rows."""
        self._entries[image] = rows
        if self._file is not None:
            self._file.write(self._text(image))
            self._file.flush()

    def finish(self, order: Iterable[str]) -> None:
        """Put the rows into order, without images that are not in it."""
        self._rewrite(image for image in order if image in self._entries)

    def _rewrite(self, images: Iterable[str]) -> None:
        write_whole(self._path, "".join([_line(self._header), *map(self._text, images)]).encode())

    def _text(self, image: str) -> str:
        return "".join(_line([image, *row]) for row in self._entries[image])

    def _read(self) -> dict[str, list[Row]]:
        """Images whose rows are all there; the last line may have been cut off."""
        rows: dict[str, list[Row]] = {}
        lines = csv.reader(self._path.read_text("utf-8", "replace").splitlines(keepends=True))
        if next(lines, None) != self._header:
            return {}
        for line in lines:
            if len(line) == len(self._header):
                rows.setdefault(line[0], []).append(line[1:])
        return {image: found for image, found in rows.items() if self._is_whole(found)}


def _line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
