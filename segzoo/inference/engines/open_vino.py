"""The network computed by OpenVINO, on the CPU."""

from typing import Any

import torch
from torch import Tensor

from segzoo.checkpoint.read import AnyTrained
from segzoo.cpu.split_bf16 import split_first_convolution, split_pixels
from segzoo.data.transforms.preprocessing import normalize
from segzoo.errors import ConfigError
from segzoo.inference.engines.base import Precision
from segzoo.inference.engines.onnx_graph import network_graph, portable

_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoEngine:
    """OpenVINO on as many threads as torch has.

    Args:
        source: the network.
        precision: said to it in any case, for left alone it takes bf16 where the processor has it.

    Raises:
        ConfigError: it is not installed, the network cannot be written as ONNX, or bf16 on a processor without it.
    """

    name = "openvino"

    def __init__(self, source: AnyTrained, *, precision: Precision = "fp32") -> None:
        self.precision: Precision = precision
        network = portable(source.network)
        self._halves = precision == "bf16" and split_first_convolution(network)
        channels = source.network.backbone.in_channels * (3 if self._halves else 1)
        self._model = compiled_model(network_graph(network, channels, source.network.score_axes), precision)
        self._preprocessing = source.preprocessing

    def __call__(self, images: Tensor) -> Tensor:
        """Logits in float32 of images (N, C, H, W), uint8 or float32 from 0 to 1."""
        pixels = normalize(images.cpu(), self._preprocessing)
        pixels = split_pixels(pixels) if self._halves else pixels
        return torch.from_numpy(self._model(pixels.contiguous().numpy())[0])


def compiled_model(model: bytes | str, precision: Precision) -> Any:
    """A network as OpenVINO computes it on the CPU.

    Args:
        model: an ONNX graph, or the path of OpenVINO's own file.
        precision: as of the engine.

    Raises:
        ConfigError: bf16 on a processor without it, where OpenVINO would quietly compute in fp32; or OpenVINO has no
            kernel for a part of the network in this precision.
    """
    import openvino

    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ConfigError("--precision: this processor has no bf16. Take fp32.")
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        return core.compile_model(core.read_model(model), "CPU", settings)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ConfigError(
            f"--engine openvino: OpenVINO cannot run this network in {precision} here ({reason}). "
            "Take another --precision or --engine."
        ) from None
