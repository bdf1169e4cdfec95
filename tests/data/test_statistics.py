import numpy as np
import pytest

from segzoo.config.schema import DataConfig
from segzoo.data.datasets.spec import build_dataset
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.sample import balanced_weights, class_pixels


def test_pixels_are_counted_and_ignored_ones_are_not() -> None:
    config = DataConfig.model_validate(
        {"name": "synthetic", "synthetic": {"train_images": 3, "val_images": 1, "size": 32}}
    )
    dataset = build_dataset(config, "train")
    masks = np.stack([dataset[index].mask for index in range(3)])
    counts = class_pixels(dataset)
    assert counts.tolist() == [(masks == index).sum() for index in range(dataset.labels.num_classes)]
    assert counts.sum() + (masks == 255).sum() == masks.size


def test_rare_classes_weigh_more() -> None:
    weights = balanced_weights(np.array([0, 10, 990]))
    assert weights == pytest.approx([1 / np.log(1.02 + share) for share in (0.0, 0.01, 0.99)], abs=0.06)


def test_masks_are_counted_without_their_images() -> None:
    class MasksOnly:
        labels = LabelSpace.from_names(["a", "b"])
        ids = ("x", "y")

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> object:
            raise AssertionError("decoded an image")

        def read_mask(self, index: int) -> np.ndarray:
            return np.array([[0, 1, index, 255]], np.uint8)

        def read_image(self, index: int, size: tuple[int, int], reduction: int = 1) -> np.ndarray:
            raise AssertionError("decoded an image")

    assert class_pixels(MasksOnly()).tolist() == [3, 3]
