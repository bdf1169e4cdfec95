"""Starting a run from the whole network of another: `model.weights`."""

import logging

from segzoo.backbones.spec import Network
from segzoo.backbones.weights import with_weights_settings
from segzoo.checkpoint.read import TrainedState, find_checkpoint, load_strictly
from segzoo.config.classification import AnyRunConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import CheckpointError
from segzoo.models.networks import sketch_network

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


def start_from(found: TrainedState, network: Network, config: AnyRunConfig, labels: LabelSpace) -> None:
    """Load a whole network; where the classes are others, all but the layers that give class scores.

    The auxiliary head may come or go: one that the run has not is left aside, one that the network has not starts anew.

    Args:
        network: what the tensors go into, freshly initialised.
        config: the run that the network was built for, with the classes of `labels`.

    Raises:
        CheckpointError: another task's, or tensors that do not fit, beyond those of other classes.
    """
    _check_task(found, config.task)
    own = network.state_dict()
    others = set() if found.labels.names == labels.names else _of_classes(config, network, labels.num_classes)
    new_head = {name for name in own.keys() - found.tensors.keys() if name.startswith(AUXILIARY)}
    left = {name for name in found.tensors.keys() - own.keys() if name.startswith(AUXILIARY)}
    fresh = others | new_head
    tensors = {name: tensor for name, tensor in found.tensors.items() if name not in left}
    tensors |= {name: own[name] for name in fresh}
    load_strictly(network, tensors, found.path)
    _log_loaded(found, len(tensors), fresh, others, labels)
    if new_head:
        _logger.info("it has no auxiliary head, so this run's starts anew: %d tensors", len(new_head))
    if left:
        _logger.info("this run has no auxiliary head, so its %d tensors are left aside", len(left))


def _check_task(network: TrainedState, task: str) -> None:
    if network.description.config.task != task:
        raise CheckpointError(
            f"{network.path}: model.weights takes a whole network of the same task, and this one was trained for "
            f"{network.description.config.task}. Its backbone may start the run: model.backbone.weights={network.path}."
        )


def _log_loaded(network: TrainedState, count: int, fresh: set[str], others: set[str], labels: LabelSpace) -> None:
    _logger.info("%s: %d of %d tensors loaded", network.path, count - len(fresh), count)
    if others:
        _logger.info(
            "it has %d classes and this run %d others, so these start anew: %s",
            network.labels.num_classes,
            labels.num_classes,
            ", ".join(sorted(others)),
        )


def _of_classes(config: AnyRunConfig, network: Network, num_classes: int) -> set[str]:
    """The tensors whose size is the number of classes: those that change with it."""
    shapes = {name: tensor.shape for name, tensor in sketch_network(config, num_classes + 1).state_dict().items()}
    return {name for name, tensor in network.state_dict().items() if tensor.shape != shapes[name]}
