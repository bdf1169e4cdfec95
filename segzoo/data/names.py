"""The names that `data.name` may take: what the registries of data sets hold now."""

from segzoo.config.load import KnownNames
from segzoo.data.classification import CLASSIFICATION_DATASETS
from segzoo.data.dataset import DATASETS


def data_set_names() -> KnownNames:
    """Dotted key -> names of both tasks, for `load_config`; without the networks', which take longer to import."""
    return {"data.name": DATASETS, "classification:data.name": CLASSIFICATION_DATASETS}
