"""What every engine can do."""

from typing import Literal, Protocol

from torch import Tensor

Precision = Literal["fp32", "bf16"]


class Engine(Protocol):
    """A trained network, ready to compute.

    `name` and `precision` say what computes, for reports.
    """

    name: str
    precision: Precision

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of images, preprocessing included.

        Args:
            images: uint8, or float32 from 0 to 1, on any device.

        Shape: (N, C, H, W) of any height and width to float32, of the axes in `Network.score_axes`, on the engine's own
        device.
        """
        ...
