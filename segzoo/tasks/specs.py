"""What a value of `task` stands for in a run, chosen once, by the configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from segzoo.config.classification import AnyRunConfig
from segzoo.data.inspection.check import quick_check
from segzoo.data.loading.datamodule import ClassificationDataModule, SegmentationDataModule, StepDataModule
from segzoo.data.reading.labels import LabelSpace
from segzoo.models import build as _build  # noqa: F401  (registers the decoders)
from segzoo.tasks.classification import ImageLoss
from segzoo.tasks.losses import build_loss


@dataclass(frozen=True)
class TaskSpec:
    """One task. The other layers have tables of their own: `NETWORKS`, `TRAINED`, `HEADS`, `EVALUATORS`.

    Args:
        data: the training and the validation split of a run.
        loss: from the loss section and the classes; raises `ConfigError` where they do not fit.
        check_files: looks at a few samples where most mistakes show, given the data section.
        draws: whether its validations are shown as pictures of masks.
    """

    data: type[StepDataModule[Any, Any]]
    loss: Callable[[Any, LabelSpace], nn.Module]
    check_files: Callable[[Any], None]
    draws: bool


TASKS: Mapping[str, TaskSpec] = {
    "segmentation": TaskSpec(SegmentationDataModule, build_loss, quick_check, draws=True),
    "classification": TaskSpec(
        ClassificationDataModule,
        ImageLoss,
        lambda data: None,  # every file is listed with its class when the data set is built
        draws=False,
    ),
}
"""`task` -> what it stands for."""


def task_spec(config: AnyRunConfig) -> TaskSpec:
    """The task of a configuration."""
    return TASKS[config.task]
