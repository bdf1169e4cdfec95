"""Samples as tensors: augmented ones for training, those that evaluation sees, and what makes batches of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from segzoo.data.loading.sampling import ChainedBatchSampler, SampleKey, StepBatchSampler
from segzoo.data.sample import (
    ClassificationDataset,
    PartwiseDataset,
    SegmentationDataset,
    mask_extent,
    named_in_errors,
)
from segzoo.data.transforms.classification import CenterView, TrainView
from segzoo.data.transforms.training import TrainTransform
from segzoo.errors import DataError


class Item(TypedDict):
    """One sample as tensors, and a training batch of them with one more dimension in front.

    Images lie in memory as they are decoded, channels last: what convolutions are quickest on.

    Shape: image (C, H, W), uint8 or float32; mask (H, W) uint8, or (K, H, W) where a pixel may have several classes.
    """

    image: Tensor
    mask: Tensor
    id: str


class ClassItem(TypedDict):
    """One image as a classifier sees it, and a batch of them with one more dimension in front.

    Shape: image (C, H, W), uint8 or float32 from 0 to 1; target int64 (), the class number, or float32 (K,), where an
    image may have several classes or is blended of two. `seed` is what the image was augmented with; batches lack it.
    """

    image: Tensor
    target: Tensor
    id: str
    seed: int


class TrainingItems(Dataset[Any], ABC):
    """Augmented samples by their keys; each is a function of the run's seed, the epoch and the index alone."""

    order: type[StepBatchSampler] = StepBatchSampler
    """Which samples make a batch."""
    collate: Callable[[list[Any]], Any]
    """Makes a batch of samples."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = dataset
        self._seed = seed

    def __getitem__(self, key: SampleKey) -> Any:
        """The sample of a key.

        Raises:
            DataError: a file is damaged, image and mask differ in size, or a data set of one's own failed.
        """
        seed = int(np.random.SeedSequence((self._seed, *key)).generate_state(1)[0])
        with named_in_errors(self.dataset.ids[key.index]):
            return self._augmented(key.index, seed)

    @abstractmethod
    def _augmented(self, index: int, seed: int) -> Any: ...


class EvaluationItems(Dataset[Any], ABC):
    """Samples by their numbers, as evaluation sees them."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        with named_in_errors(self.dataset.ids[index]):
            return self._seen(index)

    @abstractmethod
    def _seen(self, index: int) -> Any: ...

    @abstractmethod
    def collate(self, items: list[Any]) -> Any:
        """Make a batch of samples; of none, too, in a process that has no sample."""


class AugmentedDataset(TrainingItems):
    """Augmented crops of images and their masks."""

    def __init__(self, dataset: SegmentationDataset, transform: TrainTransform, seed: int) -> None:
        super().__init__(dataset, seed)
        self.collate = as_batch
        self._transform = transform
        self._parts = dataset if isinstance(dataset, PartwiseDataset) else None  # slow to ask

    def _augmented(self, index: int, seed: int) -> Item:
        image, mask = self._sample(index, seed) if self._parts is None else self._by_parts(self._parts, index, seed)
        return _mask_item(image, mask, self.dataset.ids[index])

    def _by_parts(self, dataset: PartwiseDataset, index: int, seed: int) -> tuple[Any, Any]:
        """The mask decides which part of the image is looked at, before that is decoded."""
        mask = dataset.read_mask(index)
        view = self._transform.view(mask, seed)
        image = dataset.read_image(index, mask_extent(mask), self._transform.reduction(view))
        return self._transform.cut(image, mask, view, seed)

    def _sample(self, index: int, seed: int) -> tuple[Any, Any]:
        sample = self.dataset[index]
        try:
            return self._transform(sample.image, sample.mask, seed)
        except DataError as error:
            raise DataError(f"{sample.id}: {error}") from None


class WholeDataset(EvaluationItems):
    """Whole images with their masks, in lists, because they may differ in size."""

    def _seen(self, index: int) -> Item:
        sample = self.dataset[index]
        # Copies: a data set may keep its arrays.
        return _mask_item(np.array(sample.image, order="C"), np.array(sample.mask, order="C"), sample.id)

    def collate(self, items: list[Item]) -> list[Item]:
        """The list itself."""
        return items


class CroppedDataset(TrainingItems):
    """Augmented images and their classes, blended in pairs where there is a `mixup`."""

    def __init__(
        self, dataset: ClassificationDataset, view: TrainView, seed: int, mixup: "Mixup | None" = None
    ) -> None:
        super().__init__(dataset, seed)
        self.collate = mixup or as_class_batch
        self.order = ChainedBatchSampler if mixup else StepBatchSampler
        self._view = view

    def _augmented(self, index: int, seed: int) -> ClassItem:
        return _class_item(self.dataset, index, self._view(self.dataset.read_image(index), seed), seed)


class CentralDataset(EvaluationItems):
    """The centres of images and their classes."""

    def __init__(self, dataset: ClassificationDataset, view: CenterView) -> None:
        super().__init__(dataset)
        self._view = view

    def _seen(self, index: int) -> ClassItem:
        return _class_item(self.dataset, index, self._view(self.dataset.read_image(index)), seed=0)

    def collate(self, items: list[ClassItem]) -> dict[str, Any] | list[ClassItem]:
        """A batch, or an empty list of no items."""
        return as_class_batch(items) if items else []


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
        return as_class_batch([self._blend(*pair) for pair in pairwise(items)])

    def _blend(self, first: ClassItem, second: ClassItem) -> ClassItem:
        # Another stream than the one that augmented the image with this seed.
        share = float(np.random.default_rng((first["seed"], 1)).beta(self._alpha, self._alpha))
        image = share * first["image"].float() + (1 - share) * second["image"].float()
        if first["image"].dtype == torch.uint8:
            image = image.round().to(torch.uint8)
        target = share * self._dense(first["target"]) + (1 - share) * self._dense(second["target"])
        return {**first, "image": image, "target": target}

    def _dense(self, target: Tensor) -> Tensor:
        """Float32 (K,) of a class number, or as it is."""
        return target if target.dim() else torch.nn.functional.one_hot(target, self._num_classes).float()


def as_batch(items: Sequence[Any]) -> dict[str, Any]:
    """Samples of one size as a batch; the channels of `image` stay at the end in memory."""
    # Stacked as they lie; `default_collate` writes into the memory that processes share.
    rows = [{**item, "image": item["image"].permute(1, 2, 0)} for item in items]
    batch: dict[str, Any] = default_collate(rows)
    return {**batch, "image": batch["image"].permute(0, 3, 1, 2)}


def as_class_batch(items: Sequence[ClassItem]) -> dict[str, Any]:
    """Images of one size as a batch, without their seeds."""
    return as_batch([{"image": item["image"], "target": item["target"], "id": item["id"]} for item in items])


def _mask_item(image: npt.NDArray[Any], mask: npt.NDArray[np.uint8], sample_id: str) -> Item:
    return {"image": torch.from_numpy(image).permute(2, 0, 1), "mask": torch.from_numpy(mask), "id": sample_id}


def _class_item(dataset: ClassificationDataset, index: int, image: Tensor, seed: int) -> ClassItem:
    target = torch.from_numpy(dataset.labels.coding.image_target(dataset.classes[index]))
    return {"image": image, "target": target, "id": dataset.ids[index], "seed": seed}
