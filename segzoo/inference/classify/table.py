"""The most probable classes of every image, in one table."""

import re
from pathlib import Path

from segzoo.errors import ConfigError, printable
from segzoo.inference.classify.predictor import ClassPrediction
from segzoo.inference.image_table import ImageTable, Row

PREDICTIONS = "predictions.csv"
_PROBABILITY = re.compile(r"[01]\.\d{6}")


class ClassTable(ImageTable):
    """A CSV with a row for each image: class_1, probability_1, class_2, ..., the most probable first.

    Args:
        path: the file.
        count: classes in a row.
        keep: take over the images that the file has already; else it starts anew.

    Raises:
        ConfigError: the file to go on with has other columns.
    """

    def __init__(self, path: Path, count: int, *, keep: bool) -> None:
        header = ["image"]
        for rank in range(1, count + 1):
            header += [f"class_{rank}", f"probability_{rank}"]
        if keep and path.is_file() and not path.read_text("utf-8", "replace").startswith(",".join(header) + "\n"):
            raise ConfigError(f"{printable(path)}: has other columns; give the --top it was made with, or --overwrite.")
        super().__init__(path, header, self._is_complete, keep=keep)
        self._count = count

    def add(self, image: str, prediction: ClassPrediction) -> None:
        """Append an image's row."""
        self.write(image, [[cell for name, chance in prediction.top(self._count) for cell in (name, f"{chance:.6f}")]])

    def best(self, image: str) -> str:
        """The most probable class of an image that is there."""
        return self.rows(image)[0][0]

    @staticmethod
    def _is_complete(rows: list[Row]) -> bool:
        return len(rows) == 1 and all(_PROBABILITY.fullmatch(cell) for cell in rows[0][1::2])
