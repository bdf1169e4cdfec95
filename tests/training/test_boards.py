"""What TensorBoard and Weights & Biases are given. Stand-ins take it: neither is installed for the tests."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from run_files import rows

from segzoo.config.schema import RunConfig
from segzoo.training import boards
from segzoo.training.train import train


class Stand:
    """Both boards' ways of taking a number."""

    def __init__(self) -> None:
        self.told: dict[str, object] = {}
        self.values: dict[tuple[int, str], float] = {}
        self.closed = 0

    def init(self, **told: object) -> "Stand":
        self.told = told
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        self.values |= {(step, name): value for name, value in values.items()}

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.log({name: value}, step)

    def close(self) -> None:
        self.closed += 1

    finish = close


def test_boards_get_the_numbers_of_metrics_csv(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensorboard, wandb = Stand(), Stand()
    monkeypatch.setitem(
        sys.modules,
        "torch.utils.tensorboard",
        SimpleNamespace(SummaryWriter=lambda folder: tensorboard.init(folder=folder)),  # type: ignore[arg-type]
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)  # type: ignore[arg-type]
    monkeypatch.setattr(boards, "find_spec", lambda _: True)
    run_dir = tmp_path / "runs" / "mine"
    train(tiny_config(f"run_dir={run_dir}", "trainer.tensorboard=true", "trainer.wandb=project"))
    assert tensorboard.told == {"folder": str(run_dir / "tensorboard")}
    assert {key: wandb.told[key] for key in ("project", "id", "resume")} == {
        "project": "project",
        "id": "runs-mine",
        "resume": "allow",
    }
    for board in (tensorboard, wandb):
        assert board.closed == 1
        for row in rows(run_dir):
            step, split = int(row["step"]), row["split"]
            name, column = ("train/loss", "loss") if split == "train" else ("val/miou", "miou")
            assert board.values[step, name] == pytest.approx(float(row[column]), rel=1e-6)
            if split == "train":
                assert board.values[step, "learning_rate"] == pytest.approx(float(row["learning_rate"]))
