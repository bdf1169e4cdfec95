"""Whether two ways of computing a network say the same: folded or not, packed or not, exported, by another engine."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")

TOLERANCES: dict[Precision, float] = {"fp32": 1e-3, "bf16": 5e-2}
"""Largest difference of logits, as a share of their range. bf16 has 8 bits where fp32 has 24."""


@dataclass(frozen=True)
class Agreement:
    """How far two results are apart.

    Args:
        difference: largest difference of two logits, as a share of the range of the first result's; None where only
            classes are compared.
        classes: share of pixels, or of images that have one row of logits, of the same class.
        decided: share of those of the same class, where the first result's best logit leads by more than the
            tolerance. A tie may fall either way.
        tolerance: what `difference` may be.
        unit: what has a class.
    """

    difference: float | None
    classes: float
    decided: float
    tolerance: float
    unit: str = "pixels"

    @property
    def is_close(self) -> bool:
        """Whether no difference is above the tolerance, and nothing of another class that was not a tie."""
        return (self.difference is None or self.difference <= self.tolerance) and self.decided == 1.0

    def __str__(self) -> str:
        logits = "" if self.difference is None else f"logits within {self.difference:.1e} of their range, "
        return f"{logits}{self.classes:.3%} of {self.unit} of the same class"


def compare(expected: Tensor, found: Tensor, precision: Precision = "fp32") -> Agreement:
    """Compare two results for the same images.

    Args:
        expected: logits.
        found: logits, or class indices.
        precision: how `found` was computed; it sets the tolerance.

    Shape: expected (N, K, H, W); found the same, or (N, H, W). Or (N, K) and (N,).

    >>> logits = torch.tensor([0.0, 1.0, 4.0]).view(1, 3, 1, 1)
    >>> print(compare(logits, logits + 0.002))
    logits within 5.0e-04 of their range, 100.000% of pixels of the same class
    """
    expected, found = expected.detach().float().cpu(), found.detach().cpu()
    tolerance = TOLERANCES[precision]
    span = float(expected.max() - expected.min())
    is_logits = found.ndim == expected.ndim
    difference = _share(float((expected - found.float()).abs().max()), span) if is_logits else None
    classes = found.argmax(1) if is_logits else found.long()
    same = expected.argmax(1) == classes
    best = expected.topk(min(2, expected.shape[1]), 1).values
    decided = best[:, 0] - best[:, -1] > tolerance * span
    unit = "pixels" if expected.ndim == 4 else "images"
    total = max(1, int(decided.sum()))
    wrong = int((decided & ~same).sum())
    return Agreement(difference, float(same.double().mean()), 1 - wrong / total, tolerance, unit)


def probe_image(batch: int, channels: int, height: int, width: int) -> Tensor:
    """A picture to compare with: coloured patches of several sizes and noise, always the same.

    Shape: uint8 (batch, channels, height, width).
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((batch, channels, height, width), generator=generator) * 0.2
    for cells in (3, 12):
        patches = torch.rand((batch, channels, cells, cells), generator=generator) * 0.4
        image += torch.nn.functional.interpolate(patches, (height, width))
    return (image * 255).to(torch.uint8)


def normalized_probe(channels: int, height: int, width: int) -> Tensor:
    """The same as most networks see one, float32 (1, channels, height, width) from -1 to 1."""
    return probe_image(1, channels, height, width).float() / 127.5 - 1


def _share(part: float, whole: float) -> float:
    if whole == 0:
        return 0.0 if part == 0 else float("inf")
    return part / whole
