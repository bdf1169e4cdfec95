"""One image in, one mask out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segzoo.checkpoint.read import TrainedSegmenter, load_segmenter
from segzoo.data.images import Array8, overlay, write_image, write_mask
from segzoo.data.labels import LabelSpace
from segzoo.data.pixels import PixelFormat, Pixels, as_picture
from segzoo.inference.engines.base import Engine
from segzoo.inference.engines.pytorch import TorchEngine


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image.

    Args:
        image: as people look at it: upright 8-bit RGB, (H, W, 3).
        mask: class indices, (H, W).
        labels: their names and colours.
    """

    image: Array8
    mask: Array8
    labels: LabelSpace

    def overlay(self, alpha: float = 0.5) -> Array8:
        """The mask's colours over the image, uint8 (H, W, 3); `alpha` is the colours' share, 0 to 1."""
        return overlay(self.image, self.mask, self.labels, alpha)

    def save(self, path: str | Path) -> None:
        """Write the mask as an 8-bit PNG with the data set's palette."""
        write_mask(Path(path), self.mask, self.labels.flat_palette())

    def save_overlay(self, path: str | Path) -> None:
        """Write the overlay as an RGB image."""
        write_image(Path(path), self.overlay())


class Predictor:
    """A trained network that takes images of every size.

    Args:
        checkpoint: a `.ckpt`, a run directory, or what `load_segmenter` returned.
        device: where to compute; None takes a GPU where there is one.

    Raises:
        ConfigError: no such checkpoint.
        CheckpointError: refused, with the reason.
    """

    def __init__(self, checkpoint: str | Path | TrainedSegmenter, device: str | torch.device | None = None) -> None:
        loaded = checkpoint if isinstance(checkpoint, TrainedSegmenter) else load_segmenter(checkpoint)
        self.source = loaded
        self.labels = loaded.labels
        self.pixels = PixelFormat.of(loaded.config.data)
        self.engine: Engine = TorchEngine(loaded, device)

    def logits(self, images: Tensor) -> Tensor:
        """Logits float32 (N, K, H, W) of images (N, C, H, W), uint8 or float32 from 0 to 1; on the engine's device."""
        return self.engine(images)

    def __call__(self, image: NDArray[Any] | Image.Image | str | Path) -> Prediction:
        """Segment one image.

        Args:
            image: a file; an array (H, W, C) with values as files hold them, for most networks uint8 RGB; or a PIL
                image.

        Raises:
            DataError: a file that is no image, or not of the kind that the network was trained on.
        """
        pixels = self._read(image)
        batch = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())
        mask = self.logits(batch)[0].argmax(0).to(torch.uint8).cpu().numpy()
        return Prediction(as_picture(pixels), mask, self.labels)

    def _read(self, image: NDArray[Any] | Image.Image | str | Path) -> Pixels:
        if isinstance(image, str | Path):
            return self.pixels.read(Path(image))
        if isinstance(image, Image.Image):
            image = np.asarray(image.convert("RGB") if self.pixels.is_rgb8 else image)
        return self.pixels.from_array(image)
