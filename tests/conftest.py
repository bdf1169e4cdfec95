"""What the whole suite shares: the shared material, one thread policy, quiet logs."""

import logging
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from segzoo import plugins
from segzoo.backbones.registry import BACKBONES
from segzoo.config.classification import ClassificationRunConfig
from segzoo.config.load import apply_overrides, config_from_tree
from segzoo.config.schema import RunConfig
from segzoo.data.datasets.spec import CLASSIFICATION_DATASETS, DATASETS
from segzoo.models.decoder import DECODERS
from segzoo.tasks.losses.base import LOSSES
from segzoo.tasks.metrics import METRICS
from segzoo.training.train import TrainResult, train

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and weights, outside the repository; tests skip where they are absent."""
    folder = Path(os.environ.get("SEGZOO_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("shared data and weights are absent: set SEGZOO_SHARED to their folder")
    return folder


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def run_tool() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script of tools/ as a user would, in a process of its own, from the repository's root."""

    def run(
        tool: str, *arguments: object, cwd: Path = REPOSITORY, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(REPOSITORY / "tools" / tool), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=timeout, check=False)

    return run


@pytest.fixture
def own_parts() -> Iterator[None]:
    """What a test registers is gone after it, and so are its plug-ins."""
    with ExitStack() as stack:
        stack.enter_context(plugins.temporarily())
        for registry in (BACKBONES, DECODERS, LOSSES, DATASETS, CLASSIFICATION_DATASETS, *METRICS.values()):
            stack.enter_context(registry.temporarily())
        yield


@pytest.fixture(autouse=True)
def log_as_imported() -> None:
    """Commands send the package's log to standard error; one that an earlier test ran here left it so."""
    log = logging.getLogger("segzoo")
    log.propagate, log.handlers = True, []
    log.setLevel(logging.NOTSET)


@pytest.fixture
def call_tool(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """As `run_tool`, in this process: without the seconds that importing torch takes."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the test runner keeps its own

    def call(tool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        words = [str(REPOSITORY / "tools" / tool), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            runpy.run_path(words[0], run_name="__main__")
        printed = capsys.readouterr()
        status = left.value.code if isinstance(left.value.code, int) else 0
        return subprocess.CompletedProcess(words, status, printed.out, printed.err)

    return call


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium. Of a module, for Playwright keeps an event loop running as long as it is there."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine: the browser tests drive the system's")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def scatter() -> Callable[[nn.Module], None]:
    """Give every BatchNorm a random affine and statistics: fresh ones are identities and would hide a mix-up."""

    def scatter_norms(network: nn.Module) -> None:
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.uniform_(norm.weight, 0.5, 1.0)
                nn.init.normal_(norm.bias, 0.0, 0.3)
                nn.init.normal_(norm.running_mean, 0.0, 0.3)
                nn.init.uniform_(norm.running_var, 0.8, 2.0)

    return scatter_norms


@pytest.fixture
def point_hub_to(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], None]:
    """Do what HF_ENDPOINT and HF_HUB_CACHE do in a process of their own."""

    def point(url: str, cache: Path) -> None:
        constants = pytest.importorskip("huggingface_hub").constants
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))

    return point


TINY = {
    "data": {
        "name": "synthetic",
        "batch_size": 4,
        "crop_size": [48, 64],
        "synthetic": {"train_images": 12, "val_images": 5, "size": [48, 64]},
    },
    "model": {"decoder": "deeplabv3plus_smp", "backbone": {"name": "xception", "width": 0.1}},
    "optimizer": {"name": "adamw", "learning_rate": 0.002},
    "trainer": {"max_steps": 6, "val_every_steps": 3, "log_every_steps": 1, "progress": False},
}
"""A run of seconds: a real network of the family on the smallest scenes."""


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., RunConfig]:
    """The tiny run's configuration with `key=value` changes."""
    return lambda *overrides: config_from_tree(apply_overrides(TINY, overrides))


@pytest.fixture(scope="session")
def tiny_run(tiny_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """The tiny run, trained once for all tests that need a checkpoint."""
    run_dir = tmp_path_factory.mktemp("runs") / "tiny"
    return train(tiny_config(f"run_dir={run_dir}"))


@pytest.fixture(scope="session")
def multi_label_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Splits of `images/a.png` and `masks/{disc,square}/a.png`: a red disc and a green square that overlap."""
    root = tmp_path_factory.mktemp("shapes")
    generator = np.random.default_rng(0)
    rows, columns = np.indices((48, 64))
    for split, count in (("train", 12), ("val", 4)):
        for number in range(count):
            (y, x), side = generator.integers(16, 32, 2), generator.integers(9, 14)
            disc = (rows - y) ** 2 + (columns - x) ** 2 < side**2
            square = (abs(rows - y - 4) < side) & (abs(columns - x - 8) < side)
            image = generator.integers(60, 100, (48, 64, 3)).astype(np.uint8)
            image[..., 0] += np.uint8(120) * disc
            image[..., 1] += np.uint8(120) * square
            for name, pixels in (("images", image), ("masks/disc", disc), ("masks/square", square)):
                path = root / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels if pixels.ndim == 3 else pixels.astype(np.uint8) * 255).save(path)
    return root


TINY_CLASSIFIER = {
    "task": "classification",
    "data": {"name": "image_folder", "batch_size": 4, "image_size": [40, 48], "num_workers": 0},
    "model": {"backbone": {"name": "xception", "width": 0.1}},
    "optimizer": {"name": "adamw", "learning_rate": 0.002},
    "trainer": {"max_steps": 6, "val_every_steps": 3, "log_every_steps": 1, "progress": False},
}
"""As `TINY`, for a classifier."""


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train/red/0.png`, ...: 12 training and 7 validation images of three colours, in noise, of several sizes."""
    root = tmp_path_factory.mktemp("colors")
    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 3)):
        for channel, name in enumerate(("red", "green", "blue")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count - (split == "val" and channel > 0)):
                image = generator.integers(0, 160, (44 + 2 * number, 60, 3)).astype(np.uint8)
                image[..., channel] += np.uint8(90)
                Image.fromarray(image).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def tiny_classifier_config(class_folder: Path) -> Callable[..., ClassificationRunConfig]:
    """The tiny classifier's configuration with `key=value` changes."""
    return lambda *overrides: config_from_tree(
        apply_overrides(TINY_CLASSIFIER, [f"data.root={class_folder}", *overrides])
    )


@pytest.fixture(scope="session")
def tiny_classifier_run(
    tiny_classifier_config: Callable[..., ClassificationRunConfig], tmp_path_factory: pytest.TempPathFactory
) -> TrainResult:
    """The tiny classifier, trained once for all tests that need its checkpoint."""
    run_dir = tmp_path_factory.mktemp("runs") / "tiny_classifier"
    return train(tiny_classifier_config(f"run_dir={run_dir}"))
