"""The learning-rate range test on curves with a known answer, and in a real sweep."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segzoo.config.schema import RunConfig
from segzoo.errors import ConfigError
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training import find_lr
from segzoo.training.find_lr import RangeTest, find_learning_rate

Config = Callable[..., RunConfig]
RATES = tuple(np.geomspace(1e-5, 1.0, 101).tolist())


def curve(fall: float, rise: float) -> RangeTest:
    """Falls along a logistic curve around 10^fall, and leaps up beyond 10^rise."""
    powers = np.log10(RATES)
    losses = 2 - 1.5 / (1 + np.exp(-4 * (powers - fall))) + np.exp(8 * (powers - rise))
    noise = 0.02 * np.random.default_rng(0).standard_normal(len(powers))
    return RangeTest(RATES, tuple((losses + noise).tolist()))


@pytest.mark.parametrize(("fall", "rise"), [(-3.0, 0.0), (-2.0, 0.5), (-3.5, -1.0)])
def test_suggests_from_the_steepest_fall_to_a_tenth_of_the_lowest(fall: float, rise: float) -> None:
    test = curve(fall, rise)
    assert test.steepest is not None
    assert math.log10(test.rates[test.steepest]) == pytest.approx(fall, abs=0.2)
    powers = np.log10(RATES)
    lowest = powers[np.argmin(2 - 1.5 / (1 + np.exp(-4 * (powers - fall))) + np.exp(8 * (powers - rise)))]
    assert math.log10(test.rates[test.lowest]) == pytest.approx(lowest, abs=0.3)
    assert test.suggestion == tuple(sorted((test.rates[test.steepest], test.rates[test.lowest] / 10)))


def test_smoothing_keeps_a_straight_line_and_its_place() -> None:
    line = RangeTest(RATES, tuple(np.linspace(2, 1, 101).tolist()))
    np.testing.assert_allclose(line.smoothed[15:-15], line.losses[15:-15], rtol=1e-6)
    step = RangeTest(RATES, tuple(np.repeat([2.0, 1.0], [50, 51]).tolist()))
    assert step.steepest in (49, 50)


def test_a_rising_loss_suggests_nothing() -> None:
    assert RangeTest(RATES, tuple(np.linspace(1, 2, 101).tolist())).suggestion is None


def test_sweep_sets_every_rate_in_proportion_and_writes_nothing(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[list[float]] = []
    original = SegmentationTask.training_step

    def spy(task: SegmentationTask, batch: object, index: int) -> object:
        seen.append([group["lr"] for group in task.trainer.optimizers[0].param_groups])
        return original(task, batch, index)  # type: ignore[arg-type]

    monkeypatch.setattr(SegmentationTask, "training_step", spy)
    config = tiny_config("optimizer.warmup_steps=50", "optimizer.scale_to_batch=1", "trainer.max_steps=3")
    test = find_learning_rate(config, lowest=1e-5, highest=1e-3, steps=12)
    expected = 1e-5 * 10 ** (2 * np.arange(12) / 11)
    np.testing.assert_allclose(test.rates, expected)
    np.testing.assert_allclose(seen, np.stack([expected, expected, 2 * expected], axis=1))  # biases twice as fast
    assert len(test.losses) == 12
    assert test.losses[0] == pytest.approx(math.log(4), abs=1)  # of the start, before any step
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("diverged", [50.0, math.nan])
def test_ends_where_the_loss_diverges(diverged: float, tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    original = SegmentationTask.loss_of

    def diverge(task: SegmentationTask, batch: object) -> torch.Tensor:
        return original(task, batch) + (diverged if task.global_step >= 10 else 0)  # type: ignore[arg-type]

    monkeypatch.setattr(SegmentationTask, "loss_of", diverge)
    test = find_learning_rate(tiny_config(), steps=60)
    assert len(test.losses) == len(test.rates) == (10 if math.isnan(diverged) else 11)


@pytest.mark.parametrize(
    ("request_", "line"),
    [({"lowest": 0.1, "highest": 0.01}, "has to rise"), ({"lowest": 0.0}, "above 0"), ({"steps": 3}, "too few")],
)
def test_wrong_requests_are_refused(request_: dict, line: str, tiny_config: Config) -> None:
    with pytest.raises(ConfigError, match=line):
        find_learning_rate(tiny_config(), **request_)


def test_tool_draws_and_suggests(
    call_tool: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(find_lr, "find_learning_rate", lambda *_, **__: curve(-3.0, 0.0))
    plot = tmp_path / "plot.png"
    done = call_tool("find_lr.py", "configs/quickstart.yaml", "--output", plot)
    assert done.returncode == 0
    assert "suggested: optimizer.learning_rate=0.0" in done.stdout
    with Image.open(plot) as image:
        assert image.size == (960, 600)
        assert len(image.convert("RGB").getcolors(100_000)) > 20
    rising = RangeTest(RATES, tuple(np.linspace(1, 2, 101).tolist()))
    monkeypatch.setattr(find_lr, "find_learning_rate", lambda *_, **__: rising)
    never = call_tool("find_lr.py", "configs/quickstart.yaml", "--output", plot, "--overwrite")
    assert (never.returncode, never.stderr) == (1, "")
    assert recwarn.list == []
    assert never.stdout.splitlines()[-1] == "the loss never fell: nothing to suggest. Try a wider --range."
    monkeypatch.setattr(find_lr, "find_learning_rate", lambda *_, **__: pytest.fail("swept first"))
    refused = call_tool("find_lr.py", "configs/quickstart.yaml", "--output", plot / "plot.png")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --output: ")


def test_interrupted_as_every_command(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning alone would make status 1 of it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(find_lr.RateSweep, "on_train_batch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        find_learning_rate(tiny_config(), steps=20)
