"""How many classes a data set has, as far as that is known without its files."""

import sys

from segzoo.config.schema import DataConfig
from segzoo.data.dataset import DATASETS, build_dataset
from segzoo.data.labels import LabelSpace
from segzoo.data.regroup import regrouped_labels
from segzoo.errors import SegzooError

_ASSUMED_CLASSES = 21


def count_classes(config: DataConfig) -> tuple[int, str]:
    """How many classes the data set has, and how that is known, in words.

    Args:
        config: the data section; its files need not be there.

    Raises:
        ConfigError: a class to ignore or to merge that the data set does not have.
    """
    try:
        dataset = build_dataset(config, config.val_split)
        return dataset.labels.num_classes, f"{config.name}, split {config.val_split}"
    except SegzooError:  # a network can be looked at without its data
        labels = _labels_without_files(config)
    if labels is None:
        return _ASSUMED_CLASSES, f"assumed, for the files of {config.name}, which would tell, are not at hand"
    return regrouped_labels(labels, config).num_classes, f"those of {config.name}, whose files are not at hand"


def _labels_without_files(config: DataConfig) -> LabelSpace | None:
    own = _own_labels(config.name)
    named = config.classes or config.folder.mask_values or config.folder.colors
    return LabelSpace.from_names(tuple(named)) if own is None and named else own


def _own_labels(name: str) -> LabelSpace | None:
    """The classes that a data set has without its files: `LABELS` in the module of its builder, where it has them."""
    if name not in DATASETS:
        return None
    labels = getattr(sys.modules[DATASETS[name].__module__], "LABELS", None)
    return labels if isinstance(labels, LabelSpace) else None
