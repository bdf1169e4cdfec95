"""What a run is made of, whichever its task: data, network, and the task that trains it."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segzoo.checkpoint.format import Description
from segzoo.checkpoint.read import TrainedSegmenter, read_trained
from segzoo.checkpoint.transfer import start_from
from segzoo.config.classification import AnyRunConfig
from segzoo.data.datasets.spec import input_folders
from segzoo.data.inspection.check import quick_check
from segzoo.data.loading.datamodule import ClassificationDataModule, SegmentationDataModule, StepDataModule
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError
from segzoo.inference.tile_size import choose_tile
from segzoo.inference.tiles import Tiling, tiled
from segzoo.models import networks
from segzoo.models.networks import check_network_training
from segzoo.models.segmenter import Segmenter
from segzoo.tasks.classification import ClassificationTask, ImageLoss
from segzoo.tasks.losses import build_loss
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.tasks.task import Task
from segzoo.training.loggers import check_loggers

RunData = StepDataModule[Any, Any]


def check_request(config: AnyRunConfig) -> None:
    """Refuse what cannot be trained here, before data are read and the network is built.

    Raises:
        ConfigError: loggers or a compiler that are not installed, or what the network cannot learn from.
    """
    check_loggers(config)
    check_compiler(config)
    check_network_training(config, config.data.batch_size // (config.trainer.devices * config.trainer.num_nodes))


def check_files(config: AnyRunConfig) -> None:
    """Look at a few samples of a segmentation data set, where most mistakes show; others are checked as they are built.

    Raises:
        ConfigError: the run's own folder lies among the images or masks, where its pictures would be taken for such.
        DataError: what is wrong with them.
    """
    if config.run_dir:
        run_dir = Path(os.path.realpath(config.run_dir))
        if any(run_dir.is_relative_to(os.path.realpath(folder)) for folder in input_folders(config.data)):
            raise ConfigError(f"run_dir: {config.run_dir} lies among the data set's files. Name another folder.")
    task_spec(config).check_files(config.data)


def build_data(config: AnyRunConfig) -> RunData:
    """The data of a run.

    Raises:
        ConfigError: no such data set or split, or fewer images than a batch.
        DataError: the data set's content is wrong.
    """
    return task_spec(config).data(
        config.data,
        accumulate=config.trainer.accumulate,
        steps=config.trainer.max_steps,
        epochs=config.trainer.max_epochs,
        seed=config.seed,
        eval_batch_size=config.evaluation.batch_size,
    )


def build_task(config: AnyRunConfig, data: RunData, *, pretrained: bool) -> Task:
    """The task of a run.

    Args:
        config: the run.
        data: its data.
        pretrained: start from the weights that the configuration names; not where a checkpoint follows.

    Raises:
        ConfigError: parts that do not fit together.
        CheckpointError: weights that do not fit.
    """
    whole = config.model.weights if pretrained else None
    task = task_spec(config).task(
        config, data.labels, data.steps, pretrained=pretrained and whole is None, samples=len(data.train_dataset)
    )
    if whole is not None:
        start_from(read_trained(whole), task.network, config, data.labels)
    if config.trainer.compile:
        compile_parts(task.network.large_parts())
    return task


def sketch_network(config: AnyRunConfig, labels: LabelSpace) -> nn.Module:
    """The network of a run without memory for its tensors.

    Raises:
        ConfigError: parts that do not fit together, or options of the loss that do not fit the classes.
    """
    with torch.device("meta"):
        task_spec(config).loss(config.loss, labels)
    return networks.sketch_network(config, labels.num_classes)


_COMPILERS = ("g++", "clang++", "c++", "cl")


class RunTask(SegmentationTask):
    """Segmentation in a run."""

    def _plan_evaluation(self) -> tuple[Segmenter]:
        """Compile the network of a stride of its own, which is planned anew at each validation."""
        (planned,) = super()._plan_evaluation()
        if self.config.trainer.compile and planned is not self.segmenter:
            compile_parts((planned.backbone, planned.decoder))
        return (planned,)

    def predicted(self, image: Tensor, ids: Sequence[str]) -> Tensor:
        """The masks of whole images; those larger than `evaluation.tile` by tiles, to save memory."""
        evaluation = self.config.evaluation
        tile = self._auto_tile() if evaluation.tile == "auto" else evaluation.tile
        if tile is None or max(image.shape[-2:]) <= tile:
            return super().predicted(image, ids)
        tiling = Tiling(tile, evaluation.tile_overlap)
        predict_mask = self.labels.coding.predict_mask
        return tiled(lambda part: self.checked_scores(self(part), ids), image, tiling, predict_mask).to(image.device)

    def _auto_tile(self) -> int:
        about = Description(self.config, self.labels, {}, 0)
        return choose_tile(TrainedSegmenter(self.segmenter, about, Path()), self.device)


@dataclass(frozen=True)
class TaskSpec:
    """What a value of `task` stands for in a run. Other layers have tables of their own, such as `NETWORKS`.

    Args:
        data: the training and the validation split.
        task: trains the network.
        loss: builds the loss from its section and the classes; raises `ConfigError` where they do not fit.
        check_files: looks at a few samples where most mistakes show, given the data section.
        draws: whether its validations are shown as pictures of masks.
    """

    data: type[RunData]
    task: Callable[..., Task]
    loss: Callable[[Any, LabelSpace], nn.Module]
    check_files: Callable[[Any], None]
    draws: bool


TASKS: Mapping[str, TaskSpec] = {
    "segmentation": TaskSpec(SegmentationDataModule, RunTask, build_loss, quick_check, draws=True),
    "classification": TaskSpec(
        ClassificationDataModule,
        ClassificationTask,
        ImageLoss,
        lambda data: None,  # every file is listed with its class when the data set is built
        draws=False,
    ),
}


def task_spec(config: AnyRunConfig) -> TaskSpec:
    """The task of a configuration."""
    return TASKS[config.task]


def compile_parts(parts: Iterable[nn.Module]) -> None:
    """Have torch compile parts of a network when they first run; names and weights stay."""
    for part in parts:
        part.compile()


def check_compiler(config: AnyRunConfig) -> None:
    """Refuse to compile where torch would find no compiler after minutes.

    Raises:
        ConfigError: no compiler is installed.
    """
    named = os.environ.get("CXX")
    if config.trainer.compile and not any(map(shutil.which, (named,) if named else _COMPILERS)):
        raise ConfigError(
            f"trainer.compile: torch.compile needs a C++ compiler, and {named or ' or '.join(_COMPILERS[:2])} is not "
            "installed. Install one, or take trainer.compile=false."
        )
