"""segzoo's own files: training checkpoints, run directories, and safetensors that describe themselves."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from segzoo.backbones.weights.source import Dense, Recipe, SourceWeights
from segzoo.backbones.weights.tensorflow import find_tensorflow
from segzoo.errors import CheckpointError, ConfigError, first_line
from segzoo.files import atomic_write

BACKBONE_FORMAT = 1
"""The newest format of weights files of a backbone that is read here."""
CHECKPOINT_FORMAT = 1
"""The newest format of training checkpoints and saved models that is read here."""
METADATA_KEY = "segzoo"
WEIGHTS = "model.safetensors"
"""The tensors' file in a saved model's folder."""

PREFIXES = {"segmentation": "segmenter.", "classification": "classifier."}
"""`task` -> where the network's tensors stand in a training checkpoint, and in what is read of a saved model."""
CHECKPOINTS = ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "best.ckpt", "last.ckpt")
"""Where a run directory, or its folder of checkpoints, keeps its best checkpoint, else its last."""


def find_in_folder(folder: Path) -> Path:
    """The weights file of a run directory (its best checkpoint, else its last), of a saved model's or of TensorFlow's.

    Raises:
        ConfigError: there is none, or there are several, or it may not be read.
    """
    for name in (*CHECKPOINTS, WEIGHTS):
        try:
            if (folder / name).is_file():
                return folder / name
        except OSError as error:
            raise ConfigError(f"{folder / name}: cannot be read ({error.strerror})") from None
    published = find_tensorflow(folder)
    if published is not None:
        return published
    raise ConfigError(
        f"{folder}: a folder without checkpoints/best.ckpt, last.ckpt or {WEIGHTS}. Name a run directory, such as "
        "runs/NAME/TIME, or a saved model's folder."
    )


def check_format(found: object, source: str, newest: int = CHECKPOINT_FORMAT) -> None:
    """Refuse what was written in a newer format, or states none.

    Raises:
        CheckpointError: with both versions.
    """
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise CheckpointError(f"{source}: format_version is {found!r}, which segzoo never wrote.")
    if found > newest:
        raise CheckpointError(
            f"{source}: format_version is {found}; this segzoo reads up to {newest}. Update segzoo to read it."
        )


def read_checkpoint(content: dict[str, Any], source: str) -> SourceWeights:
    """The backbone of a training checkpoint, and the head of a classifier's; a segmenter's decoder is left aside.

    Raises:
        CheckpointError: a newer format, or its description is not segzoo's.
    """
    try:
        check_format(content["segzoo"]["format_version"], source)
        config = content["segzoo"]["config"]
        prefix = PREFIXES[config.get("task", "segmentation")]  # the first segmenters' checkpoints did not say
        backbone, preprocessing = config["model"]["backbone"], config["data"]["preprocessing"]
        recipe = Recipe(
            norm_eps=backbone.get("norm_eps"),
            padding=backbone["padding"],
            stem_padding=backbone["stem_padding"],
            mean=tuple(preprocessing["mean"]),
            std=tuple(preprocessing["std"]),
        )
        network = _below(prefix, content["state_dict"])
        tensors, width = _below("backbone.", network), float(backbone["width"])
        return SourceWeights(source, "segzoo", backbone["name"], tensors, _head(network), recipe, width)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{source}: its description is not that of a segzoo checkpoint ({error!r})") from None


def read_safetensors(tensors: dict[str, Tensor], metadata: str, source: str) -> SourceWeights:
    """What `write_safetensors` wrote.

    Args:
        tensors: of the backbone, and of the head as `head.0.weight`, `head.0.bias`, ...
        metadata: its description, JSON.
        source: what to call it in messages.

    Raises:
        CheckpointError: a newer format, or no description of ours.
    """
    try:
        described = json.loads(metadata)
        check_format(described["format_version"], source, BACKBONE_FORMAT)
        values = described["recipe"]
        recipe = Recipe(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
        name, width = str(described["backbone"]), float(described["width"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{source}: its metadata are not segzoo's ({error!r})") from None
    head = _below("head.", tensors)
    layers = sorted({layer.split(".")[0] for layer in head}, key=lambda number: (len(number), number))
    dense = tuple(Dense(head[f"{layer}.weight"], head.get(f"{layer}.bias")) for layer in layers)
    backbone = {tensor: value for tensor, value in tensors.items() if not tensor.startswith("head.")}
    return SourceWeights(source, "segzoo", name, backbone, dense, recipe, width)


def write_safetensors(weights: SourceWeights, target: Path) -> None:
    """Write weights with our names as safetensors that describe themselves.

    The file is either complete or not there.

    Raises:
        ConfigError: the target cannot be written.
    """
    tensors = {name: value.contiguous() for name, value in weights.tensors.items()}
    for number, layer in enumerate(weights.head):
        tensors[f"head.{number}.weight"] = layer.weight.contiguous()
        if layer.bias is not None:
            tensors[f"head.{number}.bias"] = layer.bias.contiguous()
    described = {
        "format_version": BACKBONE_FORMAT,
        "backbone": weights.backbone,
        "width": 1.0 if weights.width is None else weights.width,
        "source": Path(weights.source).name,
        "recipe": asdict(weights.recipe),
    }
    try:
        with atomic_write(target) as part:
            save_file(tensors, part, metadata={"format": "pt", METADATA_KEY: json.dumps(described)})
    except Exception as error:  # safetensors wraps what the system says in an error of its own
        raise ConfigError(f"{target}: cannot be written ({first_line(error)})") from None


def _head(network: dict[str, Tensor]) -> tuple[Dense, ...]:
    """The fully connected layers of a classifier, in order; none of a segmenter."""
    hidden = sorted({int(name.split(".")[1]) for name in network if name.startswith("fully_connected.")})
    layers = [f"fully_connected.{number}" for number in hidden] + ["logits"] * ("logits.weight" in network)
    return tuple(Dense(network[f"{layer}.weight"], network.get(f"{layer}.bias")) for layer in layers)


def _below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
