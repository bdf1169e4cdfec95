"""A step of training waits for no device: nothing in it asks what the loss is."""

from collections.abc import Callable
from pathlib import Path

import pytest
from run_files import rows
from torch import Tensor

from segzoo.config.load import apply_overrides, config_from_tree
from segzoo.errors import TrainingError
from segzoo.tasks.classification import ClassificationTask
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training.train import train

ASKS = {"item", "__bool__", "__float__", "__int__", "__index__", "tolist", "numpy", "cpu", "is_nonzero", "nonzero"}


class Asked(Exception):
    pass


class Unread(Tensor):
    """A tensor, and all that is computed from it, whose value nobody may ask for while `guarded`."""

    guarded = False

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if cls.guarded and getattr(func, "__name__", "") in ASKS:
            raise Asked(func.__name__)
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Let a task's losses be such tensors within its training steps; which steps were."""

    def guarded(kind: type, ask: Callable[[Tensor], object] = lambda loss: None) -> list[int]:
        step, loss_of, seen = kind.training_step, kind.loss_of, []

        def loss(task: object, batch: object) -> Tensor:
            found = loss_of(task, batch).as_subclass(Unread)
            ask(found)
            return found

        def training_step(task: object, batch: object, index: int) -> Tensor:
            Unread.guarded = True
            try:
                found = step(task, batch, index)
            finally:
                Unread.guarded = False
            assert isinstance(found, Unread), "what is logged comes from the losses"
            seen.append(task.global_step)
            return found

        monkeypatch.setattr(kind, "loss_of", loss)
        monkeypatch.setattr(kind, "training_step", training_step)
        return seen

    return guarded


SEGMENTATION = [
    (),
    (
        "loss.class_weights=[1, 2, 3, 4, 5, 6, 7]",
        "trainer.accumulate=2",
        "data.batch_size=2",
        "trainer.clip_norm=1",
        "optimizer.ema_decay=0.5",
        "model.auxiliary_weight=0.4",
    ),
]


@pytest.mark.parametrize("changes", SEGMENTATION)
def test_segmentation(changes: tuple[str, ...], guard, tiny_config, tmp_path: Path) -> None:
    seen = guard(SegmentationTask)
    train(tiny_config(f"run_dir={tmp_path / 'run'}", *changes, "trainer.overlay_images=0"))
    assert seen == [1, 2, 3, 4, 5, 6]
    assert len([row for row in rows(tmp_path / "run") if row["split"] == "train"]) == 6


def test_classification(guard, tiny_classifier_run, tmp_path: Path) -> None:
    seen = guard(ClassificationTask)
    tree = apply_overrides(
        config_from_tree_of(tiny_classifier_run),
        [f"run_dir={tmp_path / 'run'}", "trainer.accumulate=2", "trainer.clip_norm=1", "data.batch_size=2"],
    )
    train(config_from_tree(tree))
    assert seen


def config_from_tree_of(result) -> dict:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load((result.run_dir / "config.yaml").read_text())


@pytest.mark.parametrize("ask", [float, bool, int, Tensor.item, Tensor.tolist, lambda loss: 1 if loss > 0 else 0])
def test_asking_would_be_seen(ask, guard, tiny_config, tmp_path: Path) -> None:
    guard(SegmentationTask, ask)
    with pytest.raises(Asked):
        train(tiny_config(f"run_dir={tmp_path / 'run'}"))


def test_a_loss_that_is_no_number_is_named_at_the_next_look(tiny_config, tmp_path: Path, monkeypatch) -> None:
    """It went wrong at step 1; the log is written every 4 steps, a validation comes at 3; nothing is saved after it."""
    original, wrong = SegmentationTask.loss_of, []

    def loss(task: SegmentationTask, batch: dict) -> Tensor:
        if task.global_step == 1:
            wrong.extend(batch["id"])
        return original(task, batch) * (float("nan") if task.global_step == 1 else 1)

    monkeypatch.setattr(SegmentationTask, "loss_of", loss)
    changes = ("trainer.log_every_steps=4", "trainer.keep_every_steps=1")
    with pytest.raises(TrainingError, match="step 1: the loss is nan, for the images") as caught:
        train(tiny_config(f"run_dir={tmp_path / 'run'}", *changes))
    assert f"for the images {', '.join(wrong)}. " in caught.value.problems[0]
    saved = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert saved == ["step_000001.ckpt"]
