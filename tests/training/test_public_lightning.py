"""The package uses Lightning by its public names, so that a release of it breaks nothing in silence."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import lightning
import pytest
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import nn

import segzoo

PACKAGE = Path(segzoo.__file__).parent
LOOPS = re.compile(r"fit_loop|epoch_loop|val_loop|validate_loop|val_check_batch|_connector\b")


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def names_of_lightning() -> set[str]:
    """Private names on what a module, a callback and a data module are given or are made of."""
    found = {name for kind in (LightningModule, LightningDataModule, Callback, Trainer) for name in dir(kind)}
    folder = Path(lightning.__file__).parent / "pytorch"
    for path in (folder / "core", folder / "trainer", folder / "callbacks", folder / "strategies", folder / "plugins"):
        for file in path.rglob("*.py"):
            found |= set(re.findall(r"self\.(_\w+)", file.read_text()))
    return {name for name in found if private(name)} - set(dir(nn.Module)) - set(vars(nn.Module()))


def uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of attributes, of what is imported from Lightning, and of names given to getattr and setattr."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lightning"):
            yield from ((node.lineno, part) for part in (node.module or "").split("."))
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("attr"):
            texts = [word.value for word in node.args if isinstance(word, ast.Constant)]
            yield from ((node.lineno, text) for text in texts if isinstance(text, str))


def defined(tree: ast.Module) -> set[str]:
    """Names that our classes give themselves."""
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    written = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    return functions | written


def problems_in(source: str, foreign: set[str]) -> list[str]:
    tree = ast.parse(source)
    own = defined(tree)
    named = [f"{line}: {name}" for line, name in uses(tree) if private(name) and name in foreign and name not in own]
    return named + [f"{number}: {line}" for number, line in enumerate(source.splitlines(), 1) if LOOPS.search(line)]


def test_the_package_uses_no_private_name_of_lightning() -> None:
    foreign = names_of_lightning()
    assert {"_trainer", "_signal_connector", "_call_setup_hook"} & foreign >= {"_trainer", "_signal_connector"}
    found = {
        str(path.relative_to(PACKAGE)): problems
        for path in PACKAGE.rglob("*.py")
        if "lightning" in (text := path.read_text()) or "Task" in text
        if (problems := problems_in(text, foreign))
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "trainer._signal_connector.register()",
        "trainer.fit_loop.epoch_loop.max_steps = 3",
        "scaler = None if task._trainer is None else 1",
        "getattr(trainer, '_results')",
        "from lightning.pytorch.loops import _FitLoop",
        "# see fit_loop",
    ],
)
def test_it_would_be_found(line: str) -> None:
    assert problems_in(line, {*names_of_lightning(), "_FitLoop", "_results"})


def test_no_hook_of_lightning_is_overridden_by_a_private_name() -> None:
    from segzoo.tasks.task import Task

    own = {name for name in vars(Task) if private(name)} - {"_abc_impl", "__abstractmethods__"}
    assert not own & {name for name, _ in inspect.getmembers(LightningModule)}
