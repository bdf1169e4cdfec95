"""Data sets, from files to batches: one room for each step of that way.

`reading` (files to arrays), `datasets` (which files), `transforms` (arrays to crops), `loading` (crops to batches) and
`inspection` (tools that look at data); a room imports only those before it.
"""

from segzoo.data.datasets.spec import DATASETS, build_dataset, register_dataset
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.sample import Sample, SegmentationDataset

__all__ = ["DATASETS", "LabelSpace", "Sample", "SegmentationDataset", "build_dataset", "register_dataset"]
