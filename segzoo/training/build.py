"""What a run is made of, whichever its task: data and network."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segzoo.checkpoint.read import read_trained
from segzoo.checkpoint.transfer import start_from
from segzoo.config.classification import AnyRunConfig
from segzoo.data.datasets.spec import input_folders
from segzoo.data.loading.datamodule import StepDataModule
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError
from segzoo.models import networks
from segzoo.models.networks import check_network_training
from segzoo.tasks.specs import task_spec
from segzoo.tasks.task import Task
from segzoo.training.loggers import check_loggers
from segzoo.training.task import RUN_TASKS, check_compiler, compile_parts

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
    task = RUN_TASKS[config.task](
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
