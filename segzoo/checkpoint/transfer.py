"""Starting a run from the whole network of another: `model.weights`."""

import logging

import torch

from segzoo.backbones.classifier import Classifier
from segzoo.backbones.weights import with_weights_settings
from segzoo.checkpoint.read import TrainedState, find_checkpoint, load_strictly
from segzoo.config.classification import AnyRunConfig
from segzoo.config.schema import ModelConfig
from segzoo.data.labels import LabelSpace
from segzoo.errors import CheckpointError
from segzoo.models.build import build_segmenter
from segzoo.models.segmenter import Segmenter

AUXILIARY = "auxiliary."
"""Where the tensors of the auxiliary head stand, which training alone needs: a run may have one or not."""

_logger = logging.getLogger(__name__)


def with_starting_settings(config: AnyRunConfig) -> AnyRunConfig:
    """The configuration, completed by what the weights that the run starts from expect.

    Preprocessing, eps and padding come from `model.weights` where it is set, else from `model.backbone.weights`, as
    `with_weights_settings` does it.

    Raises:
        ConfigError: no such weights.
        CheckpointError: the file is refused.
    """
    weights = config.model.weights
    if weights is None:
        return with_weights_settings(config)
    own = config.model.backbone
    asked = config.model.model_copy(
        update={"backbone": own.model_copy(update={"weights": str(find_checkpoint(weights))})}
    )
    completed = with_weights_settings(config.model_copy(update={"model": asked}))
    backbone = completed.model.backbone.model_copy(update={"weights": own.weights})
    return completed.model_copy(update={"model": completed.model.model_copy(update={"backbone": backbone})})


def start_from(network: TrainedState, segmenter: Segmenter, config: ModelConfig, labels: LabelSpace) -> None:
    """Load a whole network; where the classes are others, all but the layers that give class scores.

    The auxiliary head may come or go: one that the run has not is left aside, one that the network has not starts anew.

    Args:
        network: what to start from.
        segmenter: what it goes into, freshly initialised.
        config: the model section it was built from.
        labels: the classes of the run.

    Raises:
        CheckpointError: tensors that do not fit, beyond those of other classes.
    """
    _refuse_other_task(network, "segmentation")
    own = segmenter.state_dict()
    others = set() if network.labels.names == labels.names else _of_classes(config, segmenter, labels.num_classes)
    new_head = {name for name in own.keys() - network.tensors.keys() if name.startswith(AUXILIARY)}
    left = {name for name in network.tensors.keys() - own.keys() if name.startswith(AUXILIARY)}
    fresh = others | new_head
    tensors = {name: tensor for name, tensor in network.tensors.items() if name not in left}
    tensors |= {name: own[name] for name in fresh}
    load_strictly(segmenter, tensors, network.path)
    _say_loaded(network, len(tensors), fresh, others, labels)
    if new_head:
        _logger.info("it has no auxiliary head, so this run's starts anew: %d tensors", len(new_head))
    if left:
        _logger.info("this run has no auxiliary head, so its %d tensors are left aside", len(left))


def start_classifier_from(network: TrainedState, classifier: Classifier, labels: LabelSpace) -> None:
    """Load a whole classifier; where the classes are others, all but the layer that gives class scores.

    Args:
        network: what to start from.
        classifier: what it goes into, freshly initialised.
        labels: the classes of the run.

    Raises:
        CheckpointError: a segmenter, or tensors that do not fit, beyond those of other classes.
    """
    _refuse_other_task(network, "classification")
    own = classifier.state_dict()
    others = set() if network.labels.names == labels.names else {name for name in own if name.startswith("logits.")}
    load_strictly(classifier, network.tensors | {name: own[name] for name in others}, network.path)
    _say_loaded(network, len(own), others, others, labels)


def _refuse_other_task(network: TrainedState, task: str) -> None:
    if network.description.config.task != task:
        raise CheckpointError(
            f"{network.path}: model.weights takes a whole network of the same task, and this one was trained for "
            f"{network.description.config.task}. Its backbone may start the run: model.backbone.weights={network.path}."
        )


def _say_loaded(network: TrainedState, count: int, fresh: set[str], others: set[str], labels: LabelSpace) -> None:
    _logger.info("%s: %d of %d tensors loaded", network.path, count - len(fresh), count)
    if others:
        _logger.info(
            "it has %d classes and this run %d others, so these start anew: %s",
            network.labels.num_classes,
            labels.num_classes,
            ", ".join(sorted(others)),
        )


def _of_classes(config: ModelConfig, segmenter: Segmenter, num_classes: int) -> set[str]:
    """The tensors whose size is the number of classes: those that change with it."""
    with torch.device("meta"):  # no memory, no time, no random numbers
        other = build_segmenter(config, num_classes + 1, in_channels=segmenter.backbone.in_channels, pretrained=False)
    shapes = {name: tensor.shape for name, tensor in other.state_dict().items()}
    return {name for name, tensor in segmenter.state_dict().items() if tensor.shape != shapes[name]}
