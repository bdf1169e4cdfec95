import pytest

from segzoo.data.datasets.spec import build_dataset


@pytest.fixture(scope="session")
def synthetic_labels(tiny_config):
    """Classes of the tiny run."""
    return build_dataset(tiny_config().data, "val").labels
