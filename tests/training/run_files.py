"""What a run left in its folder, read again."""

import csv
from pathlib import Path

import torch

from segzoo.checkpoint.format import TRAINING_STATE
from segzoo.checkpoint.read import read_checkpoint


def rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def steps_of(run_dir: Path) -> list[tuple[int, str]]:
    return [(int(row["step"]), row["split"]) for row in rows(run_dir)]


def weights(run_dir: Path, name: str = "last") -> dict[str, torch.Tensor]:
    """All of them: where the run averages, the average and the weights beside it."""
    content = read_checkpoint(run_dir / "checkpoints" / f"{name}.ckpt")
    beside = {f"beside {key}": value for key, value in content.get(TRAINING_STATE, {}).items()}
    return {**content["state_dict"], **beside}
