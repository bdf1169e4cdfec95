"""What a run is made of, whichever its task: data and network."""

import os
from pathlib import Path

import torch
from torch import nn

from segzoo.checkpoint.read import read_trained
from segzoo.checkpoint.transfer import start_classifier_from, start_from
from segzoo.config.classification import AnyRunConfig, ClassificationRunConfig
from segzoo.config.schema import RunConfig
from segzoo.data.classification.datamodule import ClassificationDataModule
from segzoo.data.datamodule import SegmentationData
from segzoo.data.doctor.quick import quick_check
from segzoo.data.labels import LabelSpace
from segzoo.data.listing import input_folders
from segzoo.errors import ConfigError
from segzoo.models.build import build_segmenter
from segzoo.models.classifier import build_configured_classifier
from segzoo.models.limits import check_classifier_training, check_training
from segzoo.tasks.classification_loss import ImageLoss
from segzoo.tasks.losses import build_loss
from segzoo.training.boards import check_boards
from segzoo.training.task import ClassificationRunTask, RunTask, check_compiler, compile_parts

RunData = SegmentationData | ClassificationDataModule
AnyRunTask = RunTask | ClassificationRunTask


def check_request(config: AnyRunConfig) -> None:
    """Refuse what cannot be trained here, before data are read and the network is built.

    Raises:
        ConfigError: boards or a compiler that are not installed, or what the network cannot learn from.
    """
    check_boards(config)
    check_compiler(config)
    images = config.data.batch_size // (config.trainer.devices * config.trainer.num_nodes)
    if isinstance(config, RunConfig):
        check_training(config.model, images, config.data.crop_size)
    else:
        check_classifier_training(config.model, images, config.data.image_size)


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
    if isinstance(config, RunConfig):
        quick_check(config.data)


def build_data(config: AnyRunConfig) -> RunData:
    """The data of a run.

    Raises:
        ConfigError: no such data set or split, or fewer images than a batch.
        DataError: the data set's content is wrong.
    """
    if isinstance(config, RunConfig):
        return SegmentationData(
            config.data,
            accumulate=config.trainer.accumulate,
            steps=config.trainer.max_steps,
            epochs=config.trainer.max_epochs,
            seed=config.seed,
            eval_batch_size=config.evaluation.batch_size,
        )
    return ClassificationDataModule(
        config.data,
        accumulate=config.trainer.accumulate,
        steps=config.trainer.max_steps,
        epochs=config.trainer.max_epochs,
        seed=config.seed,
        eval_batch_size=config.evaluation.batch_size,
    )


def build_task(config: AnyRunConfig, data: RunData, *, pretrained: bool) -> AnyRunTask:
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
    samples = len(data.train_dataset)
    task: AnyRunTask
    if isinstance(config, ClassificationRunConfig):
        task = ClassificationRunTask(
            config, data.labels, data.steps, pretrained=pretrained and whole is None, samples=samples
        )
        if whole is not None:
            start_classifier_from(read_trained(whole), task.classifier, data.labels)
    else:
        task = RunTask(config, data.labels, data.steps, pretrained=pretrained and whole is None, samples=samples)
        if whole is not None:
            start_from(read_trained(whole), task.segmenter, config.model, data.labels)
    if config.trainer.compile:
        compile_parts(task.large_parts())
    return task


def sketch_network(config: AnyRunConfig, labels: LabelSpace) -> nn.Module:
    """The network of a run without memory for its tensors.

    Raises:
        ConfigError: parts that do not fit together, or options of the loss that do not fit the classes.
    """
    classes, channels = labels.num_classes, config.data.channels
    with torch.device("meta"):  # no memory, no time, no random numbers
        if isinstance(config, RunConfig):
            build_loss(config.loss, labels)
            return build_segmenter(config.model, classes, in_channels=channels, pretrained=False)
        ImageLoss(config.loss, labels)
        return build_configured_classifier(config.model, classes, in_channels=channels, pretrained=False)
