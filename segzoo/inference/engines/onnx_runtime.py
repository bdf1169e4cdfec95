"""The network computed by ONNX Runtime, on the CPU."""

from typing import Any

import torch
from torch import Tensor

from segzoo.checkpoint.read import AnyTrained
from segzoo.data.transforms.preprocessing import normalize
from segzoo.errors import first_line
from segzoo.inference.engines.base import Precision
from segzoo.inference.engines.onnx_graph import network_graph, portable


class OnnxRuntimeEngine:
    """ONNX Runtime on as many threads as torch has, in fp32, the only precision it computes in on CPUs.

    Args:
        source: the network.

    Raises:
        ConfigError: it is not installed, or the network cannot be written as ONNX.
    """

    name = "onnxruntime"
    precision: Precision = "fp32"

    def __init__(self, source: AnyTrained) -> None:
        graph = network_graph(portable(source.network), source.network.backbone.in_channels, source.network.score_axes)
        self._session = onnx_session(graph, one_size=False)
        self._preprocessing = source.preprocessing

    def __call__(self, images: Tensor) -> Tensor:
        """Logits in float32 of images (N, C, H, W), uint8 or float32 from 0 to 1."""
        pixels = normalize(images.cpu(), self._preprocessing).contiguous()
        try:
            (logits,) = self._session.run(None, {"image": pixels.numpy()})
        except Exception as error:  # its own types, which are no RuntimeError
            raise RuntimeError(first_line(error)) from error
        return torch.from_numpy(logits)


def onnx_session(model: bytes | str, *, one_size: bool) -> Any:
    """What ONNX Runtime computes a graph with, on the CPU.

    Args:
        model: the graph, or its file's path.
        one_size: all images have one size, for which a plan of the memory pays; it would make one for each.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # its warnings are about nodes that it removes
    options.enable_mem_pattern = one_size
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
