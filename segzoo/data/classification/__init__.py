"""Images with classes of their own, from files to batches."""

from segzoo.data.classification import cifar, csv_table, image_folder, imagenet  # noqa: F401  # registers them
from segzoo.data.classification.dataset import (
    CLASSIFICATION_DATASETS,
    ClassificationDataset,
    build_classification_dataset,
    register_classification_dataset,
)

__all__ = [
    "CLASSIFICATION_DATASETS",
    "ClassificationDataset",
    "build_classification_dataset",
    "register_classification_dataset",
]
