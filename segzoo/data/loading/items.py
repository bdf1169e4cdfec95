"""Samples as tensors: augmented crops for training, whole images for evaluation."""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, default_collate

from segzoo.data.loading.sampling import SampleKey
from segzoo.data.sample import PartwiseDataset, SegmentationDataset, mask_extent, named_in_errors
from segzoo.data.transforms.training import TrainTransform
from segzoo.errors import DataError


class Item(TypedDict):
    """One sample as tensors, and a training batch of them with one more dimension in front.

    Images lie in memory as they are decoded, channels last: what convolutions are quickest on.

    Shape: image (C, H, W), uint8 or float32; mask (H, W) uint8, or (K, H, W) where a
    pixel may have several classes.
    """

    image: torch.Tensor
    mask: torch.Tensor
    id: str


class AugmentedDataset(Dataset[Item]):
    """Augmented samples; each is a function of the seed, the epoch and the index alone.

    Args:
        dataset: where samples come from.
        transform: the augmentation.
        seed: of the run.
    """

    def __init__(self, dataset: SegmentationDataset, transform: TrainTransform, seed: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self._parts = dataset if isinstance(dataset, PartwiseDataset) else None  # slow to ask

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> Item:
        """The sample of a key.

        Raises:
            DataError: a file is damaged, image and mask differ in size, or a data set of one's own failed.
        """
        seed = int(np.random.SeedSequence((self.seed, *key)).generate_state(1)[0])
        with named_in_errors(self.dataset.ids[key.index]):
            if self._parts is None:
                image, mask = self._from_sample(key.index, seed)
            else:
                image, mask = self._from_parts(self._parts, key.index, seed)
            return _item(image, mask, self.dataset.ids[key.index])

    def _from_parts(self, dataset: PartwiseDataset, index: int, seed: int) -> tuple[Any, Any]:
        """The mask decides what of the image is looked at, before that is decoded."""
        mask = dataset.read_mask(index)
        view = self.transform.view(mask, seed)
        image = dataset.read_image(index, mask_extent(mask), self.transform.reduction(view))
        return self.transform.cut(image, mask, view, seed)

    def _from_sample(self, index: int, seed: int) -> tuple[Any, Any]:
        sample = self.dataset[index]
        try:
            return self.transform(sample.image, sample.mask, seed)
        except DataError as error:
            raise DataError(f"{sample.id}: {error}") from None


class WholeDataset(Dataset[Item]):
    """Samples as they are.

    Args:
        dataset: where samples come from.
    """

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        with named_in_errors(self.dataset.ids[index]):
            sample = self.dataset[index]
            # Copies: a data set may keep its arrays.
            return _item(np.array(sample.image, order="C"), np.array(sample.mask, order="C"), sample.id)


def as_batch(items: Sequence[Any]) -> dict[str, Any]:
    """Samples of one size, items of any kind with an image, as a batch; channels stay at the end in memory."""
    # Stacked as they lie; `default_collate` writes into the memory that processes share.
    rows = [{**item, "image": item["image"].permute(1, 2, 0)} for item in items]
    batch: dict[str, Any] = default_collate(rows)
    return {**batch, "image": batch["image"].permute(0, 3, 1, 2)}


def as_list(items: list[Item]) -> list[Item]:
    """Images may differ in size, so they are not stacked."""
    return items


def _item(image: npt.NDArray[Any], mask: npt.NDArray[np.uint8], sample_id: str) -> Item:
    return {
        "image": torch.from_numpy(image).permute(2, 0, 1),
        "mask": torch.from_numpy(mask),
        "id": sample_id,
    }
