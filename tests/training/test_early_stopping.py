import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from segzoo.config.schema import RunConfig
from segzoo.errors import ConfigError
from segzoo.tasks.confusion import Scores
from segzoo.tasks.metrics import Measured
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training.resume import requested_config
from segzoo.training.train import train

MIOU = {
    1: 0.1,
    2: 0.3,
    3: 0.2,
    4: None,
    5: 0.3,
    6: 0.9,
}  # the best at 2, then two that are no better, and one of nothing


@pytest.fixture(autouse=True)
def scripted_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validations with the results above, instead of measured ones."""

    def validated(task: SegmentationTask) -> None:
        task.measured.reset()
        task.scores = Scores(MIOU[task.global_step], 0.5, (0.5,) * task.labels.num_classes)
        task.found = Measured(task.measured.metrics, vars(task.scores), task.labels)

    monkeypatch.setattr(SegmentationTask, "measure", validated)


def steps_of(run_dir: Path, split: str) -> list[int]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["split"] == split]


def test_ends_after_so_many_validations_without_gain(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    result = train(tiny_config(f"run_dir={run_dir}", "trainer.val_every_steps=1", "trainer.early_stopping=2"))
    assert steps_of(run_dir, "val") == steps_of(run_dir, "train") == [1, 2, 3, 4, 5]
    assert (result.summary["steps"], result.summary["best_step"], result.summary["best_val_miou"]) == (5, 2, 0.3)
    with pytest.raises(ConfigError, match="finished"):
        train(requested_config(None, resume=run_dir), resume=run_dir)

    (run_dir / "summary.json").unlink()  # killed after its last validation
    resumed = train(requested_config(None, resume=run_dir), resume=run_dir)
    assert resumed.summary["steps"] == 5
    assert steps_of(run_dir, "val") == steps_of(run_dir, "train") == [1, 2, 3, 4, 5]


def test_runs_to_its_end_where_the_gain_comes_in_time(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = tiny_config(f"run_dir={tmp_path / 'run'}", "trainer.val_every_steps=1", "trainer.early_stopping=3")
    assert train(config).summary["steps"] == 6
