"""Data sets, from files to batches."""

from segzoo.data import camvid, cityscapes, folder, synthetic, voc  # noqa: F401  # importing them registers them
from segzoo.data.classification import cifar, csv_table, image_folder, imagenet  # noqa: F401
from segzoo.data.dataset import DATASETS, build_dataset, register_dataset
from segzoo.data.labels import LabelSpace
from segzoo.data.sample import Sample, SegmentationDataset

__all__ = ["DATASETS", "LabelSpace", "Sample", "SegmentationDataset", "build_dataset", "register_dataset"]
