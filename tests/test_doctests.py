"""The examples in docstrings do what they show."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import segzoo
from segzoo.backbones import registry

MODULES = [module.name for module in pkgutil.walk_packages(segzoo.__path__, "segzoo.")]


@pytest.fixture(autouse=True)
def _registered_for_the_example_only(monkeypatch) -> None:
    """One example registers a backbone, which other tests would find among the known names."""
    monkeypatch.setattr(registry._BACKBONES, "_entries", dict(registry._BACKBONES._entries))


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0


def test_there_are_examples() -> None:
    assert sum(doctest.testmod(import_module(name)).attempted for name in MODULES) > 10
