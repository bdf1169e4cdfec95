"""Data sets, from files to batches."""

from segzoo.data import camvid, cityscapes, folder, synthetic, voc  # noqa: F401  # importing them registers them
from segzoo.data.dataset import (
    DATASETS,
    Sample,
    SegmentationDataset,
    build_dataset,
    register_dataset,
)
from segzoo.data.labels import LabelSpace

__all__ = ["DATASETS", "LabelSpace", "Sample", "SegmentationDataset", "build_dataset", "register_dataset"]
