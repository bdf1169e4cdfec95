"""Images and their classes as tensors, blended in pairs where the run asks for it."""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from segzoo.data.loading.items import as_batch
from segzoo.data.loading.sampling import SampleKey, StepBatchSampler
from segzoo.data.sample import ClassificationDataset, named_in_errors
from segzoo.data.transforms.classification import CenterView, TrainView


class ClassItem(TypedDict):
    """One image as the network sees it, and a batch of them with one more dimension in front.

    Shape: image (C, H, W), uint8 or float32 from 0 to 1; target int64 (), the class number, or float32 (K,), where an
    image may have several classes or is blended of two. `seed` is what the image was augmented with.
    """

    image: Tensor
    target: Tensor
    id: str
    seed: int


class CroppedDataset(Dataset[ClassItem]):
    """Augmented images; each is a function of the seed, the epoch and the index alone.

    Args:
        dataset: where images come from.
        view: the augmentation.
        seed: of the run.
    """

    def __init__(self, dataset: ClassificationDataset, view: TrainView, seed: int) -> None:
        self.dataset = dataset
        self._view = view
        self._seed = seed

    def __getitem__(self, key: SampleKey) -> ClassItem:
        """The image of a key.

        Raises:
            DataError: its file is damaged, or a data set of one's own failed.
        """
        seed = int(np.random.SeedSequence((self._seed, *key)).generate_state(1)[0])
        with named_in_errors(self.dataset.ids[key.index]):
            image = self._view(self.dataset.read_image(key.index), seed)
            return _item(self.dataset, key.index, image, seed)


class CentralDataset(Dataset[ClassItem]):
    """Images as evaluation sees them.

    Args:
        dataset: where images come from.
        view: which part of them.
    """

    def __init__(self, dataset: ClassificationDataset, view: CenterView) -> None:
        self.dataset = dataset
        self._view = view

    def __getitem__(self, index: int) -> ClassItem:
        with named_in_errors(self.dataset.ids[index]):
            return _item(self.dataset, index, self._view(self.dataset.read_image(index)), 0)


def as_class_batch(items: Sequence[ClassItem]) -> dict[str, Any]:
    """Images of one size as a batch, without their seeds."""
    return as_batch([{"image": item["image"], "target": item["target"], "id": item["id"]} for item in items])


def as_class_batch_or_nothing(items: Sequence[ClassItem]) -> dict[str, Any] | list[ClassItem]:
    """As `as_class_batch`; an empty list for a process that has no images."""
    return as_class_batch(items) if items else []


def _item(dataset: ClassificationDataset, index: int, image: Tensor, seed: int) -> ClassItem:
    target = torch.from_numpy(dataset.labels.coding.image_target(dataset.classes[index]))
    return {"image": image, "target": target, "id": dataset.ids[index], "seed": seed}


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
