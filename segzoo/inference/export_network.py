"""A network as others run it: what goes in, what comes out, and what has to be known about both."""

import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from segzoo.backbones.network import Network
from segzoo.checkpoint.format import FORMAT_VERSION, versions
from segzoo.checkpoint.read import AnyTrained
from segzoo.data.reading.pixels import PixelFormat
from segzoo.data.transforms.preprocessing import normalize
from segzoo.inference.engines.onnx_graph import EXAMPLE_SIZE, IMAGE_AXES, portable

METADATA = "segzoo"
"""The entry of an exported file's metadata that holds ours, as JSON."""

_LETTERS = {"batch": "N", "classes": "C", "height": "H", "width": "W"}


@dataclass(frozen=True)
class ExportOptions:
    """What is taken into the graph.

    Args:
        preprocessing: it takes images as image libraries hand them out, (N, H, W, C) uint8, instead of normalised
            float32 (N, C, H, W). Networks for other than 8-bit RGB take float32 from 0 to 1.
        argmax: it gives class indices, uint8 (N, H, W), instead of logits, float32 (N, K, H, W); of a classifier int64
            (N,) instead of (N, K).
    """

    preprocessing: bool = False
    argmax: bool = False

    @property
    def axes(self) -> tuple[str, ...]:
        """The image's axes by name."""
        return ("batch", "height", "width", "channels") if self.preprocessing else IMAGE_AXES

    @property
    def output(self) -> str:
        """The result's name."""
        return "classes" if self.argmax else "logits"

    def output_axes(self, network: Network) -> tuple[str, ...]:
        """The result's axes by name."""
        return tuple(axis for axis in network.score_axes if axis != "classes" or not self.argmax)


class ExportedNetwork(nn.Module):
    """The network with what the options take into it.

    Args:
        source: the network; this holds a copy.
        options: what is taken in.

    Shape:
        image: as `ExportOptions` says; so is the result.
    """

    def __init__(self, source: AnyTrained, options: ExportOptions) -> None:
        super().__init__()
        self.network = portable(source.network)
        self.options = options
        channels = len(source.preprocessing.mean)
        rgb8 = PixelFormat.of(source.config.data).is_rgb8
        zero, one = (torch.full((1, channels, 1, 1), value) for value in (0.0, 1.0))
        shift = normalize(zero, source.preprocessing)
        scale = normalize(one, source.preprocessing) - shift
        self.register_buffer("scale", scale / 255 if rgb8 else scale)
        self.register_buffer("shift", shift)
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, image: Tensor) -> Tensor:
        """Logits or classes of an image."""
        if self.options.preprocessing:
            image = image.permute(0, 3, 1, 2).float() * self.scale + self.shift
        logits: Tensor = self.network(image)
        if not self.options.argmax:
            return logits
        classes = logits.argmax(1)
        return classes.to(torch.uint8) if classes.ndim > 1 else classes  # masks have 255 classes at most


def input_for(source: AnyTrained, options: ExportOptions, images: Tensor) -> Tensor:
    """Images as an exported network takes them.

    Shape: uint8 (N, C, H, W) to what `ExportOptions` says.
    """
    if not options.preprocessing:
        return normalize(images, source.preprocessing)
    pixels = images.permute(0, 2, 3, 1).contiguous()
    return pixels if PixelFormat.of(source.config.data).is_rgb8 else pixels.float() / 255


def example_input(source: AnyTrained, options: ExportOptions) -> Tensor:
    """Images of zeros to trace with."""
    channels = len(source.preprocessing.mean)
    return input_for(source, options, torch.zeros((2, channels, *EXAMPLE_SIZE), dtype=torch.uint8))


def metadata(source: AnyTrained, options: ExportOptions) -> str:
    """What an exported file says about itself, as JSON: enough to feed it and to name and colour what it gives."""
    example = example_input(source, options)
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "classes": list(source.labels.names),
        "palette": [list(color) for color in source.labels.palette],
        "ignore_index": source.labels.ignore_index,
        "multi_label": source.labels.multi_label,
        "value_range": source.config.data.value_range,
        "preprocessing": source.preprocessing.model_dump(mode="json"),
        "input": {
            "name": "image",
            "type": str(example.dtype).removeprefix("torch."),
            "layout": "NHWC" if options.preprocessing else "NCHW",
            "preprocessing_inside": options.preprocessing,
        },
        "output": {
            "name": options.output,
            "layout": "".join(_LETTERS[axis] for axis in options.output_axes(source.network)),
        },
        **source.config.data.model_dump(mode="json", include={"image_size", "center_crop"}),
        "versions": versions(),
    }
    return json.dumps(content)
