"""Reading checkpoints safely: no pickled objects, names from registries, strict weights."""

import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from segzoo.backbones.classifier import Classifier
from segzoo.backbones.spec import Network
from segzoo.backbones.weights.hub import fetch_model, hub_name_of, is_hub_name
from segzoo.backbones.weights.models import find_model
from segzoo.backbones.weights.own import PREFIXES, WEIGHTS, find_in_folder
from segzoo.backbones.weights.recognise import read_pickle
from segzoo.backbones.weights.saved import read_saved
from segzoo.backbones.weights.source import is_plain
from segzoo.backbones.weights.tensorflow import find_tensorflow, is_tensorflow
from segzoo.checkpoint.deeplab import Protocol, read_published
from segzoo.checkpoint.format import TRAINING_STATE, Description, parse_description
from segzoo.config.classification import AnyRunConfig, ClassificationRunConfig
from segzoo.config.schema import Preprocessing, RunConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import CheckpointError, ConfigError, UnknownNameError, first_line
from segzoo.models.networks import build_network
from segzoo.models.segmenter import Segmenter
from segzoo.plugins import OWN_PARTS

NetworkKind = TypeVar("NetworkKind", bound=Network, covariant=True)
ConfigKind = TypeVar("ConfigKind", bound=AnyRunConfig, covariant=True)


@dataclass(frozen=True)
class Trained(Generic[NetworkKind, ConfigKind]):
    """A network in evaluation mode with everything needed to use it.

    Args:
        path: the file it came from.
    """

    network: NetworkKind
    description: Description
    path: Path

    @property
    def config(self) -> ConfigKind:
        """The run it was trained in."""
        return cast(ConfigKind, self.description.config)  # `TRAINED` says which class a task has

    @property
    def labels(self) -> LabelSpace:
        """Classes, palette and ignore index."""
        return self.description.labels

    @property
    def preprocessing(self) -> Preprocessing:
        """How pixels become input."""
        return self.config.data.preprocessing


class TrainedSegmenter(Trained[Segmenter, RunConfig]):
    """A trained segmenter."""

    @property
    def segmenter(self) -> Segmenter:
        """The network."""
        return self.network


class TrainedClassifier(Trained[Classifier, ClassificationRunConfig]):
    """A trained classifier."""

    @property
    def classifier(self) -> Classifier:
        """The network."""
        return self.network


AnyTrained = Trained[Network, AnyRunConfig]

TRAINED: Mapping[str, type[AnyTrained]] = {"segmentation": TrainedSegmenter, "classification": TrainedClassifier}
"""`task` -> the class of its trained networks."""

TrainedKind = TypeVar("TrainedKind", bound=AnyTrained)


def find_checkpoint(path: str | Path) -> Path:
    """The file that CHECKPOINT means.

    Args:
        path: a `.ckpt`; a run directory, for its best checkpoint, else its last; a saved model's folder or its
            `model.safetensors`; a segmenter that DeepLab's authors published (a TensorFlow checkpoint's prefix, index,
            folder or archive, or a frozen graph); or, where nothing of that name is here, what is downloaded: one of
            these segmenters by its name, `deeplab/NAME`, or a saved model on the Hugging Face hub, `owner/name` or
            `owner/name@revision`.

    Raises:
        ConfigError: nothing there, or no download.
        CheckpointError: what is on the hub is no saved model.
    """
    asked, path = str(path), Path(path)
    model = find_model(asked)
    if model is not None:
        from segzoo.checkpoint.saved import fetch_saved  # it loads what it saves, and so needs this module

        return fetch_saved(model)
    if is_hub_name(asked):
        return fetch_model(asked)
    if path.is_dir():
        return find_in_folder(path)
    path = find_tensorflow(path) or path
    if path.is_file():
        return path
    raise ConfigError(
        f"{path}: no such checkpoint. Name a .ckpt file or a run directory, such as runs/NAME/TIME, or a saved model: "
        "its folder, or owner/name on the Hugging Face hub."
    )


def run_dir_of(checkpoint: Path) -> Path | None:
    """The run directory that a checkpoint lies in, if it lies in one."""
    parent = Path(os.path.realpath(checkpoint)).parent
    return parent.parent if parent.name == "checkpoints" else None


def model_name(checkpoint: Path) -> str:
    """What a checkpoint's outputs are filed under: the name of its run directory or saved folder, else its own."""
    run_dir = run_dir_of(checkpoint)
    if run_dir is not None:
        return run_dir.name
    if checkpoint.suffix == ".index":  # of TensorFlow, whose own names are much the same everywhere
        return Path(os.path.realpath(checkpoint)).parent.name
    if checkpoint.name != WEIGHTS:
        return Path(checkpoint.name.removesuffix(".gz")).stem
    return hub_name_of(checkpoint) or Path(os.path.realpath(checkpoint)).parent.name


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint or saved model, read without executing anything from it.

    Raises:
        CheckpointError: not a segzoo checkpoint, damaged, or with something in it that could run code.
    """
    saved = path.suffix == ".safetensors"
    content: Any = read_saved(path) if saved else read_pickle(path)
    if not _is_ours(content):
        raise CheckpointError(f"{path}: not a segzoo checkpoint. `segzoo train` writes them.")
    if not saved:
        _check_sums(path)
    _check_tensors(content, path)
    return dict(content)


def _is_ours(content: object) -> bool:
    if not isinstance(content, dict):
        return False
    if not isinstance(content.get("segzoo"), dict) or not _is_state(content.get("state_dict")):
        return False
    return TRAINING_STATE not in content or _is_state(content[TRAINING_STATE])


def _is_state(state: object) -> bool:
    return isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    )


def _check_tensors(content: dict[str, Any], path: Path) -> None:
    """See that tensors claim no more numbers than the file has, for a network as large would be built for them."""
    for key in ("state_dict", TRAINING_STATE):
        tensors = content.get(key, {}).values()
        if sum(tensor.numel() * tensor.element_size() for tensor in tensors) > path.stat().st_size:
            raise CheckpointError(f"{path}: refused, because its tensors claim more numbers than the file has.")
        if not all(map(is_plain, tensors)):
            raise CheckpointError(
                f"{path}: refused, because a tensor is of a type that no weights have: sparse, quantised, complex or "
                "of 8 bits."
            )


def read_description(content: dict[str, Any], path: Path) -> Description:
    """What a checkpoint says about itself.

    Raises:
        CheckpointError: a newer format, or content that does not fit it.
    """
    return parse_description(content["segzoo"], str(path))


def load_trained(checkpoint: str | Path, *, averaged: bool = True) -> AnyTrained:
    """Rebuild the network of a checkpoint of any task, with the arguments and errors of `load_segmenter`."""
    return _built(read_trained(checkpoint, averaged=averaged))


def load_published(source: str | Path, protocol: Protocol) -> TrainedSegmenter:
    """Rebuild a segmenter that DeepLab's authors published, in evaluation mode.

    Args:
        source: a TensorFlow checkpoint, its archive, or a frozen graph.
        protocol: what these do not say.

    Raises:
        ConfigError: no such path, or another file.
        CheckpointError: refused, with the reason.
    """
    path = find_checkpoint(source)
    if not is_tensorflow(path):
        raise ConfigError(
            f"{path}: no checkpoint or frozen graph of TensorFlow's. A backbone goes to a file *.safetensors; what "
            "segzoo trained is saved by `segzoo export`."
        )
    return cast(TrainedSegmenter, _built(TrainedState(*read_published(path, protocol), path)))


def load_segmenter(checkpoint: str | Path, *, averaged: bool = True) -> TrainedSegmenter:
    """Rebuild the network of a checkpoint, in evaluation mode and at its `model.eval_output_stride`, on the CPU.

    Args:
        checkpoint: a `.ckpt`, a run directory, a saved model's folder, `owner/name` on the Hugging Face hub, or a
            published model's name; see `find_checkpoint`.
        averaged: of a run with `optimizer.ema_decay`, take the averaged weights, which its metrics are of; False takes
            those that training went on with. Other runs have one set of weights only.

    Raises:
        ConfigError: no such path, or no download.
        CheckpointError: refused, with the reason.
    """
    found = read_trained(checkpoint, averaged=averaged)
    return _of_kind(
        TrainedSegmenter,
        found,
        "a classifier, which says what an image shows, not where. segzoo.load_classifier reads it; a segmenter may "
        f"start from it: model.backbone.weights={found.path}.",
    )


def load_classifier(checkpoint: str | Path, *, averaged: bool = True) -> TrainedClassifier:
    """Rebuild the classifier of a checkpoint, with the arguments and errors of `load_segmenter`."""
    found = read_trained(checkpoint, averaged=averaged)
    return _of_kind(TrainedClassifier, found, "a segmenter, not a classifier. segzoo.load_segmenter reads it.")


def _of_kind(kind: type[TrainedKind], found: "TrainedState", otherwise: str) -> TrainedKind:
    if TRAINED[found.description.config.task] is not kind:
        raise CheckpointError(f"{found.path}: {otherwise}")
    return cast(TrainedKind, _built(found))


def _built(found: "TrainedState") -> AnyTrained:
    config = found.description.config
    build = partial(build_network, config, found.labels.num_classes, pretrained=False, evaluated=True)
    return TRAINED[config.task](build_strictly(build, found).eval(), found.description, found.path)


@dataclass(frozen=True)
class TrainedState:
    """What a checkpoint says of itself, and its tensors by the network's own names, whatever its task."""

    description: Description
    tensors: dict[str, Tensor]
    path: Path

    @property
    def labels(self) -> LabelSpace:
        """The classes it scores."""
        return self.description.labels


def read_trained(checkpoint: str | Path, *, averaged: bool = True) -> TrainedState:
    """Read the description and the tensors of a checkpoint, with the arguments and errors of `load_segmenter`."""
    path = find_checkpoint(checkpoint)
    if is_tensorflow(path):
        return TrainedState(*read_published(path, Protocol()), path)
    content = read_checkpoint(path)
    description = read_description(content, path)
    state = content["state_dict"]
    if not averaged and TRAINING_STATE in content:
        state, description = content[TRAINING_STATE], replace(description, metrics={})
    elif not averaged and description.config.optimizer.ema_decay:
        raise CheckpointError(f"{path}: has the averaged weights only, as saved models do. Name the run's checkpoint.")
    return TrainedState(description, network_state(state, description), path)


def build_strictly(build: Callable[[], Network], found: TrainedState) -> Network:
    """A network with a checkpoint's weights, compared before it takes any memory.

    Args:
        build: makes it, with any weights.
        found: the checkpoint.

    Raises:
        CheckpointError: it cannot be built, or the weights do not fit exactly.
    """
    try:
        with torch.device("meta"):
            sketch = build()
        _check_state(sketch, found.tensors, found.path)
        network = build()
    except ConfigError as error:
        advice = f" {OWN_PARTS}" if isinstance(error, UnknownNameError) else ""
        raise CheckpointError(f"{found.path}: {problem}{advice}" for problem in error.problems) from None
    load_strictly(network, found.tensors, found.path)
    return network


def network_state(state: Mapping[str, Tensor], description: Description) -> dict[str, Tensor]:
    """The network's own entries of a training checkpoint's state."""
    prefix = PREFIXES[description.config.task]
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load every tensor exactly once.

    Raises:
        CheckpointError: what is missing, left over, of another shape or not finite.
    """
    _check_state(network, state, path)
    network.load_state_dict(dict(state), strict=True)


def _check_state(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    own = network.state_dict()
    problems = [
        *_differences("missing", own.keys() - state.keys()),
        *_differences("left over", state.keys() - own.keys()),
        *_differences("of another shape", {k for k in own.keys() & state.keys() if own[k].shape != state[k].shape}),
        *_differences("not finite", {k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()}),
    ]
    if problems:
        raise CheckpointError(f"{path}: weights refused: {'; '.join(problems)}")


def damaged_part(path: Path) -> str | None:
    """The first file in a checkpoint's archive whose bytes are not those that were written.

    Torch reads such a tensor without a word, but the archive has the sums of its files.
    """
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def _check_sums(path: Path) -> None:
    try:
        damaged = damaged_part(path)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: damaged ({first_line(error)}).") from None
    if damaged is not None:
        raise CheckpointError(f"{path}: damaged on the disk: {damaged} is not what was written.")


def _differences(what: str, keys: set[str]) -> list[str]:
    if not keys:
        return []
    shown = ", ".join(sorted(keys)[:3])
    return [f"{len(keys)} {what} ({shown}{', ...' if len(keys) > 3 else ''})"]
