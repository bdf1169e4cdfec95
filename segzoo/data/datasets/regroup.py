"""Classes left out or joined into one, for any data set, without a change to its files."""

from collections.abc import Sequence

import numpy as np

from segzoo.config.schema import DataConfig
from segzoo.data.datasets.pairs import FileDataset
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.sample import Sample, SegmentationDataset


def regroup(dataset: SegmentationDataset, config: DataConfig) -> SegmentationDataset:
    """The data set with the classes that `data.ignore_classes` and `data.merge_classes` leave.

    Raises:
        ConfigError: a name is no class of the data set.
    """
    labels = regrouped_labels(dataset.labels, config)
    if labels is dataset.labels:
        return dataset
    if isinstance(dataset, FileDataset):  # what stands in its files maps to the new classes at once
        return dataset.with_labels(labels)
    return RegroupedDataset(dataset, config)


def regrouped_labels(labels: LabelSpace, config: DataConfig) -> LabelSpace:
    """The classes that `data.ignore_classes` and `data.merge_classes` leave.

    Raises:
        ConfigError: a name is no class.
    """
    if not config.ignore_classes and not config.merge_classes:
        return labels
    return labels.regrouped(config.ignore_classes or (), config.merge_classes or {})


def single_class(labels: LabelSpace) -> str | None:
    """The line for classes of which every pixel, or image, would have the same one; None where there are several."""
    if labels.coding.num_values > 1:
        return None
    return (
        f"data: '{labels.names[0]}' is the only class, so that there is nothing to tell apart. Leave at least two of "
        "those that the data set, data.classes or data.folder name (data.ignore_classes, data.merge_classes)."
    )


class RegroupedDataset:
    """Samples of another data set, their masks in the new classes.

    Args:
        dataset: where samples come from.
        config: says which classes are ignored and merged.

    Raises:
        ConfigError: a name is no class of the data set.
    """

    def __init__(self, dataset: SegmentationDataset, config: DataConfig) -> None:
        self._dataset = dataset
        self._from_old = regrouped_labels(dataset.labels.of_indices(), config)
        self.labels = self._from_old.of_indices()

    @property
    def ids(self) -> Sequence[str]:
        """As the other data set's."""
        return self._dataset.ids

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        return Sample(sample.image, self._from_old.encode(np.asarray(sample.mask)), sample.id)
