"""What predictors of every task do: read images, run the engine, one image after the other."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segzoo.checkpoint.read import AnyTrained
from segzoo.data.reading.images import picture_to_rgb
from segzoo.data.reading.pixels import PixelFormat, Pixels
from segzoo.errors import DataError, SegzooError
from segzoo.inference.engines.base import Engine, Precision
from segzoo.inference.engines.choose import build_engine
from segzoo.inference.pipeline import Room, read_ahead, threads
from segzoo.tasks.scores import check_scores

Predicted = TypeVar("Predicted")

Picture = NDArray[Any] | Image.Image | str | Path
"""A file; an array (H, W, C) with values as files hold them, for most networks uint8 RGB; or a PIL image."""

_STREAM_ROOM = 256 * 2**20  # bytes of images read ahead of the one that is computed
_STREAM_DEPTH = 4


class BasePredictor(ABC, Generic[Predicted]):
    """A trained network that takes images of every size; `Predictor` and `ClassPredictor` say what comes out.

    Args:
        source: the network.
        device: where to compute; None takes a GPU where there is one.
        engine: what computes.
        precision: of its numbers.

    Raises:
        ConfigError: no such engine, or one that cannot compute this network here.
    """

    def __init__(
        self, source: AnyTrained, device: str | torch.device | None, *, engine: str, precision: Precision
    ) -> None:
        self.source: AnyTrained = source
        self.labels = source.labels
        self.pixels = PixelFormat.of(source.config.data)
        self.engine: Engine = build_engine(source, engine, precision=precision, device=device)

    @property
    def device(self) -> torch.device:
        """Where the engine computes."""
        return torch.device(getattr(self.engine, "device", "cpu"))

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Logits in float32 of images (N, C, H, W), uint8 or float32 from 0 to 1; on the engine's device.

        Raises:
            DataError: they are no numbers.
        """
        return check_scores(self.engine(images))

    def seen(self, pixels: Pixels) -> Pixels:
        """What the network sees of an image (H, W, C)."""
        return pixels

    @abstractmethod
    def batch_key(self, pixels: Pixels) -> object:
        """What images that may run together have in common, given what is seen of one."""

    @abstractmethod
    def predict_one(self, image: Picture, pixels: Pixels) -> Predicted:
        """Predict an image that was read.

        Args:
            image: what it was read from.
            pixels: as `read` gives them.

        Raises:
            DataError: scores that are no numbers.
        """

    def stream(self, images: Iterable[Picture]) -> Iterator[Predicted]:
        """Predict images one after the other, reading the next ones meanwhile; as many as there are.

        Raises:
            DataError: as for one image, where its turn comes.
        """
        room = Room(_STREAM_ROOM)
        with threads() as pool:
            loaded = read_ahead(images, self.read, self._cost, room=room, pool=pool, depth=_STREAM_DEPTH)
            for entry in filter(None, loaded):
                if entry.pixels is None:
                    raise entry.fault or DataError("not read")
                yield self.predict_one(entry.item, entry.pixels)
                room.give_back(entry.cost)

    def read(self, image: Picture) -> Pixels:
        """Pixels (H, W, C) of an image, as the network takes them.

        Raises:
            DataError: a file that is no image, or not of the kind that the network was trained on.
        """
        if isinstance(image, str | Path):
            return self.pixels.read(Path(image))
        if isinstance(image, Image.Image):
            image = picture_to_rgb(image) if self.pixels.is_rgb8 else np.asarray(image)
        return self.pixels.from_array(image)

    def _cost(self, image: Picture) -> int:
        """Bytes of an image, for reading ahead; what is in memory already costs nothing more."""
        try:
            height, width = self.pixels.size(Path(image)) if isinstance(image, str | Path) else (0, 0)
        except SegzooError:
            return 1
        return 1 + 8 * self.pixels.channels * height * width
