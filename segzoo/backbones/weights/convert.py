"""Weights of others as segzoo's own safetensors, which say what they expect."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from segzoo.backbones.registry import build_backbone
from segzoo.backbones.weights.load import fill_from
from segzoo.backbones.weights.own import write_safetensors
from segzoo.backbones.weights.recognise import read_weights
from segzoo.backbones.weights.source import SourceWeights
from segzoo.errors import ConfigError


def convert_weights(source: str | Path, target: str | Path, *, width: float | None = None) -> SourceWeights:
    """Convert a weights file to segzoo's safetensors, strictly, with metadata.

    Args:
        source: a file of Keras, timm, Cadene, DeepLab or segzoo, or a run directory.
        target: file to write.
        width: of the backbone, for a file that does not say; 1 by default.

    Raises:
        ConfigError: no such source, or the target exists or cannot be written.
        CheckpointError: the source does not fit its variant exactly.
    """
    target = Path(target)
    if target.exists():
        raise ConfigError(f"{target}: exists already. Name another file, or delete it.")
    weights = read_weights(source)
    width = next((known for known in (width, weights.width) if known is not None), 1.0)
    in_channels = 3 if weights.stem is None or weights.stem.ndim != 4 else weights.stem.shape[1]
    network: nn.Module = build_backbone(weights.backbone, width=width, in_channels=in_channels)
    fill_from(network, weights)
    tensors = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    converted = replace(weights, naming="segzoo", tensors=tensors, width=width)
    write_safetensors(converted, target)
    return converted
