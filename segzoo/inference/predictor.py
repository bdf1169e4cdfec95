"""One image in, one mask out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segzoo.checkpoint.read import TrainedSegmenter, load_segmenter
from segzoo.data.images import overlay, read_image, write_image, write_mask
from segzoo.data.labels import LabelSpace
from segzoo.data.preprocessing import normalize

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image.

    Args:
        image: upright 8-bit RGB, (H, W, 3).
        mask: class indices, (H, W).
        labels: their names and colours.
    """

    image: Pixels
    mask: Pixels
    labels: LabelSpace

    def overlay(self, alpha: float = 0.5) -> Pixels:
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
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.segmenter = loaded.segmenter.to(device=self.device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Logits float32 (N, K, H, W) of uint8 images (N, 3, H, W), on the predictor's device."""
        pixels = normalize(images.to(self.device), self.source.preprocessing)
        logits: Tensor = self.segmenter(pixels.contiguous(memory_format=torch.channels_last))
        return logits

    def __call__(self, image: Pixels | Image.Image | str | Path) -> Prediction:
        """Segment one image.

        Args:
            image: uint8 RGB array (H, W, 3), a PIL image, or a file.

        Raises:
            DataError: a file that is no image.
        """
        pixels = read_image(Path(image)) if isinstance(image, str | Path) else _to_array(image)
        batch = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())
        mask = self.logits(batch)[0].argmax(0).to(torch.uint8).cpu().numpy()
        return Prediction(pixels, mask, self.labels)


def _to_array(image: Pixels | Image.Image) -> Pixels:
    pixels = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"expected a uint8 RGB array (H, W, 3), not {pixels.dtype} {pixels.shape}")
    return pixels
