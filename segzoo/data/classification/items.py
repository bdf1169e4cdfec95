"""Images and their classes as tensors."""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from segzoo.data.classification.views import CenterView, TrainView
from segzoo.data.items import as_batch
from segzoo.data.sample import ClassificationDataset, named_in_errors
from segzoo.data.sampling import SampleKey


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
