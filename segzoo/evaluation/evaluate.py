"""mIoU of a checkpoint on a split."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segzoo.checkpoint.read import find_checkpoint, load_segmenter, run_dir_of
from segzoo.config.load import apply_overrides, config_from_tree
from segzoo.config.schema import RunConfig
from segzoo.data.datamodule import evaluation_loader
from segzoo.data.dataset import build_dataset
from segzoo.data.labels import LabelSpace
from segzoo.data.progress import counted
from segzoo.errors import ConfigError
from segzoo.inference.predictor import Predictor
from segzoo.models.evaluation import planned_for_evaluation
from segzoo.models.limits import warn_of_other_stride
from segzoo.tasks.confusion import ConfusionMatrix, Scores
from segzoo.tasks.names import known_names
from segzoo.tasks.segmentation import stack_equal_sizes

CHANGEABLE = ("data.", "evaluation.", "model.eval_output_stride=")


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Args:
        scores: mIoU, pixel accuracy, IoU of each class.
        matrix: int64 (K, K), rows the truth.
        labels: the classes.
        images: how many.
        output: folder with metrics.json.
    """

    scores: Scores
    matrix: Tensor
    labels: LabelSpace
    images: int
    output: Path


def evaluate(
    checkpoint: str | Path,
    overrides: Sequence[str] = (),
    *,
    split: str | None = None,
    output: str | Path | None = None,
) -> Evaluation:
    """Measure a checkpoint on whole images at their original resolution.

    Args:
        checkpoint: a `.ckpt` or a run directory.
        overrides: `key=value` changes to the configuration it was trained with, such as `data.root=...`
            or `model.eval_output_stride=8`.
        split: which split; None takes `evaluation.split`, else `data.val_split`.
        output: folder for metrics.json; None takes <run directory>/evaluation/<split>.

    Raises:
        ConfigError: no such checkpoint, key, data set or split, or other classes than it was trained on.
        CheckpointError: refused, with the reason.
        DataError: the data set's content is wrong.
    """
    path = find_checkpoint(checkpoint)
    source = load_segmenter(path)
    config = _override(source.config, overrides)
    segmenter = planned_for_evaluation(source.segmenter, config.model, source.labels.num_classes)
    warn_of_other_stride(config.model)
    predictor = Predictor(replace(source, segmenter=segmenter))
    split = split or config.evaluation.split or config.data.val_split
    dataset = build_dataset(config.data, split)
    if dataset.labels.names != predictor.labels.names:
        raise ConfigError(
            f"data: {config.data.name} has the classes {', '.join(dataset.labels.names)}, and {path} was trained "
            f"on {', '.join(predictor.labels.names)}. Name the data set it was trained on."
        )
    loader = evaluation_loader(dataset, config.data, batch_size=config.evaluation.batch_size)
    counts = ConfusionMatrix(dataset.labels.num_classes, dataset.labels.ignore_index)
    for samples in counted(loader, len(loader), "evaluating"):
        for batch in stack_equal_sizes(samples):
            counts.update(predictor.logits(batch["image"]).argmax(1).cpu(), batch["mask"])
    matrix = counts.compute()
    folder = Path(output) if output else _default_output(path, split)
    result = Evaluation(Scores.from_matrix(matrix), matrix, dataset.labels, len(dataset), folder)
    _write_metrics(result, path, config, split)
    return result


def _override(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """The run's configuration with changes; most of it has to be what was trained."""
    wrong = [text for text in overrides if not text.startswith(CHANGEABLE)]
    if wrong:
        allowed = "only data.*, evaluation.* and model.eval_output_stride can change in an evaluation"
        raise ConfigError([f"{text}: {allowed}." for text in wrong])
    return config_from_tree(apply_overrides(config.model_dump(mode="json"), overrides), known_names=known_names())


def _default_output(checkpoint: Path, split: str) -> Path:
    run_dir = run_dir_of(checkpoint)
    return (run_dir or Path("evaluations", checkpoint.stem)) / "evaluation" / split


def _write_metrics(result: Evaluation, checkpoint: Path, config: RunConfig, split: str) -> None:
    content: dict[str, Any] = {
        "miou": result.scores.miou,
        "pixel_accuracy": result.scores.pixel_accuracy,
        "iou": dict(zip(result.labels.names, result.scores.iou, strict=True)),
        "confusion_matrix": result.matrix.tolist(),
        "images": result.images,
        "dataset": config.data.name,
        "split": split,
        "output_stride": config.model.eval_output_stride or config.model.output_stride,
        "checkpoint": str(checkpoint),
        "torch": str(torch.__version__),
    }
    result.output.mkdir(parents=True, exist_ok=True)
    (result.output / "metrics.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
