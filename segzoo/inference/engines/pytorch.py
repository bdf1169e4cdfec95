"""The network as it was trained, computed by torch."""

import torch
from torch import Tensor

from segzoo.checkpoint.read import TrainedSegmenter
from segzoo.data.preprocessing import normalize
from segzoo.inference.engines.base import Precision


class TorchEngine:
    """Torch, in channels-last memory order.

    Args:
        source: the network; it moves to the device.
        device: where to compute; None takes a GPU where there is one.
    """

    name = "torch"
    precision: Precision = "fp32"

    def __init__(self, source: TrainedSegmenter, device: str | torch.device | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._preprocessing = source.preprocessing
        self._segmenter = source.segmenter.to(device=self.device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits float32 (N, num_classes, H, W) of images (N, C, H, W), uint8 or float32 from 0 to 1."""
        pixels = normalize(images.to(self.device), self._preprocessing)
        logits: Tensor = self._segmenter(pixels.contiguous(memory_format=torch.channels_last))
        return logits
