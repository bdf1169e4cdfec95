"""The examples in docstrings do what they show."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import segzoo

MODULES = [module.name for module in pkgutil.walk_packages(segzoo.__path__, "segzoo.")]


@pytest.fixture(autouse=True)
def _registered_for_the_example_only(own_parts) -> None:
    """Examples register parts, which other tests would find among the known names."""


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0


def test_there_are_examples() -> None:
    assert sum(doctest.testmod(import_module(name)).attempted for name in MODULES) > 10
