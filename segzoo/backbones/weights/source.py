"""What a source of weights holds, once it is read: tensors, whose names they bear, and what they expect around them."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from segzoo.config.model import Padding, StemPadding

Naming = Literal["keras", "timm", "tensorflow", "segzoo"]

_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Recipe:
    """What weights expect around them: how pixels become input, and the settings that change numbers.

    Args:
        norm_eps: added to the variance in every norm; None is the variant's own.
        padding: of strided convolutions and pools.
        stem_padding: of the stem.
        mean: of each channel, in units of the full range (0 to 1), RGB.
        std: standard deviation of each channel, in the same units.
    """

    norm_eps: float | None
    padding: Padding
    stem_padding: StemPadding
    mean: tuple[float, ...] = _HALF
    std: tuple[float, ...] = _HALF


KERAS_RECIPE = Recipe(norm_eps=1e-3, padding="same", stem_padding="valid")
# timm's port and Cadene's, from which it comes: PyTorch's own eps, and pads on both sides.
LEGACY_RECIPE = Recipe(norm_eps=1e-5, padding="symmetric", stem_padding="valid")
ALIGNED_RECIPE = Recipe(norm_eps=1e-3, padding="symmetric", stem_padding="padded")

STEM = (
    "stem.conv1.weight",
    "block1_conv1/kernel",
    "conv1.weight",
    "stem.0.conv.weight",
    "entry_flow/conv1_1/weights",
)
"""What segzoo, Keras, Cadene, timm and DeepLab call the first convolution's kernels."""

_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)  # the last of counters


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor holds numbers that weights can have: not sparse, quantised, complex, or of 8 bits."""
    return tensor.device.type == "cpu" and tensor.layout == torch.strided and tensor.dtype in _TYPES


TIMM_RECIPES = {
    "xception": LEGACY_RECIPE,
    "xception41": ALIGNED_RECIPE,
    "xception65": ALIGNED_RECIPE,
    "xception71": ALIGNED_RECIPE,
    "xception41p": Recipe(norm_eps=1e-5, padding="symmetric", stem_padding="padded"),
    "xception65p": ALIGNED_RECIPE,
}


@dataclass(frozen=True)
class Dense:
    """A fully connected layer of a classifier's head.

    Shape:
        weight: (out, in). bias: (out,), or None.
    """

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class SourceWeights:
    """The content of a weights file.

    Args:
        source: what to call it in messages.
        naming: whose names the tensors bear.
        backbone: the variant they belong to.
        tensors: the backbone's, by name, in PyTorch's layout.
        head: the classifier's layers, in order; empty where the file has none.
        recipe: what they expect around them.
        width: of the backbone, where the file says.
        behind: tensors of a segmenter of DeepLab's behind its backbone, as `tensors`; empty where there are none.
    """

    source: str
    naming: Naming
    backbone: str
    tensors: dict[str, Tensor]
    head: tuple[Dense, ...]
    recipe: Recipe
    width: float | None = None
    behind: dict[str, Tensor] = field(default_factory=dict)

    @property
    def stem(self) -> Tensor | None:
        """Kernels of a network of the family's first convolution, which show its channels and its width."""
        return next((self.tensors[name] for name in STEM if name in self.tensors), None)
