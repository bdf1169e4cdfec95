"""Mixup: images blended in pairs, and their classes with them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segzoo.data.classification.items import ClassItem, as_class_batch
from segzoo.data.sampling import SampleKey, StepBatchSampler


class ChainedBatchSampler(StepBatchSampler):
    """As `StepBatchSampler`, with one sample more behind each batch: the one that its last sample is blended with.

    In the batch of all processes each sample's partner is the next one, and the last one's the first, so that nothing
    depends on how many processes share it.
    """

    def batch(self, step: int) -> list[SampleKey]:
        """The samples this process sees at a step, and the partner of the last one.

        Args:
            step: steps done before it.
        """
        share = self.batch_size // self.world_size
        offset = (self.rank + 1) * share % self.batch_size
        return [*super().batch(step), self._key(step * self.batch_size + offset)]


class Mixup:
    """Blends each image of a batch with the next one, and leaves the last out.

    Args:
        alpha: of the Beta distribution that the shares are drawn from.
        num_classes: K.

    Source: arXiv:1710.09412, section 2: x = λ·x_i + (1 - λ)·x_j, y alike, λ ~ Beta(α, α). Departures: each pair has a λ
    of its own, as in the paper's equations, where its code draws one for a batch; 8-bit images are blended to the
    nearest of 256 levels.
    """

    def __init__(self, alpha: float, num_classes: int) -> None:
        self._alpha = alpha
        self._num_classes = num_classes

    def __call__(self, items: Sequence[ClassItem]) -> dict[str, Any]:
        """A batch of one image less than there are items, with targets float32 (N, K)."""
        shares = [self._share(item["seed"]) for item in items[:-1]]
        pairs = zip(items[:-1], items[1:], shares, strict=True)
        return as_class_batch([self._blend(first, second, share) for first, second, share in pairs])

    def _share(self, seed: int) -> float:
        # Another stream than the one that augmented the image with this seed.
        return float(np.random.default_rng((seed, 1)).beta(self._alpha, self._alpha))

    def _blend(self, first: ClassItem, second: ClassItem, share: float) -> ClassItem:
        image = share * first["image"].float() + (1 - share) * second["image"].float()
        if first["image"].dtype == torch.uint8:
            image = image.round().to(torch.uint8)
        target = share * self._dense(first["target"]) + (1 - share) * self._dense(second["target"])
        return {**first, "image": image, "target": target}

    def _dense(self, target: Tensor) -> Tensor:
        """float32 (K,) of a class number, or as it is."""
        if target.dim():
            return target
        return torch.nn.functional.one_hot(target, self._num_classes).float()
