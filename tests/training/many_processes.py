"""What training comes to, as JSON; the tests run it in one process and in several, and compare.

As a script it takes the output, a folder of classes and the overrides that all segmentation runs share; torchrun, or
nothing, starts it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from segzoo.checkpoint.format import TRAINING_STATE
from segzoo.checkpoint.metrics import read_rows
from segzoo.checkpoint.read import read_checkpoint
from segzoo.config.load import apply_overrides, config_from_tree
from segzoo.tasks.confusion import Scores
from segzoo.tasks.processes import is_first_process
from segzoo.training.train import train

# Statistics of a batch, dropout and random scaling of gradients differ between one process and several.
EXACT = {
    "data": {
        "name": "synthetic",
        "batch_size": 4,
        "crop_size": [48, 64],
        "synthetic": {"train_images": 12, "val_images": 5, "size": [48, 64]},
    },
    "model": {
        "decoder": "deeplabv3plus",
        "norm": "group",
        "backbone": {"name": "xception", "width": 0.1},
        "deeplab": {"dropout": 0.0, "aspp_channels": 64, "decoder_channels": 64},
    },
    "optimizer": {"learning_rate": 0.05},
    "loss": {"class_weights": [1, 2, 3, 4, 5, 6, 7]},
    "trainer": {"max_steps": 1, "val_every_steps": 10, "log_every_steps": 1, "progress": False, "accelerator": "cpu"},
}
EXACT_CLASSIFIER = {
    "task": "classification",
    "data": {"name": "image_folder", "batch_size": 4, "image_size": 40, "num_workers": 0},
    "model": {"norm": "group", "dropout": 0.0, "backbone": {"name": "xception", "width": 0.1}},
    "optimizer": {"learning_rate": 0.01, "ema_decay": 0.5},  # at 0.05 rounding grows a thousandfold in four steps
    "loss": {"class_weights": [1, 2, 5], "label_smoothing": 0.1},
    "trainer": {"max_steps": 4, "val_every_steps": 10, "log_every_steps": 1, "progress": False, "accelerator": "cpu"},
}
VALIDATION_IMAGES = (1, 2, 5)  # fewer than two processes, as many for each, and not a whole number for each
ACCUMULATED = ("data.batch_size=2", "trainer.accumulate=2")  # as many images in a step


def outcome(folder: Path, *overrides: str, accumulated: tuple[str, ...] = ()) -> dict[str, Any]:
    """The confusion matrix over some validation images each, after no learning; and the loss of each of eight steps.

    Then the same with averaged weights: the losses, and the mIoU and some sums of the average.
    """
    matrices: list[list[list[int]]] = []
    seen: list[list[list[int]]] = []
    original = Scores.from_matrix
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scores, "from_matrix", lambda matrix: seen.append(matrix.tolist()) or original(matrix))
        for count in VALIDATION_IMAGES:
            run(folder / str(count), f"data.synthetic.val_images={count}", "optimizer.learning_rate=1e-30", *overrides)
            assert all(matrix == seen[-1] for matrix in seen), "every score of a validation is of the same counts"
            matrices.append(seen[-1])
            seen.clear()
    learning = run(folder / "learning", "trainer.max_steps=8", *overrides)
    averaging = run(folder / "averaging", "trainer.max_steps=4", "optimizer.ema_decay=0.5", *accumulated, *overrides)
    found = {"matrices": matrices, "losses": losses_of(learning), "averaged_losses": losses_of(averaging)}
    if is_first_process():
        content = read_checkpoint(averaging / "checkpoints" / "best.ckpt")
        found["miou"] = content["segzoo"]["metrics"]["val/miou"]
        for key in ("state_dict", TRAINING_STATE):
            found[key] = [tensor.double().abs().mean().item() for tensor in content[key].values()]
    return found


def classifier_outcome(run_dir: Path, images: Path, *overrides: str) -> dict[str, Any]:
    """The losses of a classifier's steps, its scores, and some sums of the averaged weights and those beside them."""
    tree = apply_overrides(EXACT_CLASSIFIER, [f"run_dir={run_dir}", f"data.root={images}", *overrides])
    result = train(config_from_tree(tree))
    found: dict[str, Any] = {"losses": losses_of(result.run_dir)}
    if is_first_process():
        content = read_checkpoint(result.run_dir / "checkpoints" / "last.ckpt")
        found["scores"] = content["segzoo"]["metrics"]
        found["matrix"] = result.scores["confusion_matrix"].tolist()
        for key in ("state_dict", TRAINING_STATE):
            found[key] = [tensor.double().abs().mean().item() for tensor in content[key].values()]
    return found


def losses_of(run_dir: Path) -> list[float]:
    return [float(row["loss"]) for row in read_rows(run_dir / "metrics.csv") if row["split"] == "train"]


def run(run_dir: Path, *overrides: str) -> Path:
    return train(config_from_tree(apply_overrides(EXACT, [f"run_dir={run_dir}", *overrides]))).run_dir


if __name__ == "__main__":
    target = Path(sys.argv[1])
    found = outcome(target.parent, *sys.argv[3:], accumulated=ACCUMULATED)
    found["classifier"] = classifier_outcome(target.parent / "classifier", Path(sys.argv[2]), *ACCUMULATED)
    if is_first_process():
        target.write_text(json.dumps(found))
