"""The network computed by torch, on the CPU or a GPU."""

import torch
from torch import Tensor

from segzoo.checkpoint.read import AnyTrained
from segzoo.cpu.prepacking import prepacked
from segzoo.cpu.split_bf16 import split_first_convolution, split_pixels, to_bf16
from segzoo.data.transforms.preprocessing import normalize
from segzoo.errors import ConfigError, first_line
from segzoo.inference.engines.base import Precision
from segzoo.models.folding import folded


class TorchEngine:
    """Torch, with BatchNorm folded into the convolutions and in channels-last memory order.

    In bf16, weights and activations are, with what `split_bf16` makes an exception of, and `prepacking` lays them out
    on CPUs.

    Args:
        source: the network; it stays as it is, this is a copy.
        device: where to compute; None takes a GPU where there is one. "mps" is not tested.
        precision: "bf16" is fast where the processor has instructions for it, and slow where it has none.
        compiled: let torch.compile write kernels, for each size anew: the first image of a size takes up to minutes,
            from the ninth size on it is computed without, and a C++ compiler has to be there.

    Raises:
        ConfigError: no such device, or bf16 on a GPU that does not have it.
    """

    name = "torch"

    def __init__(
        self,
        source: AnyTrained,
        device: str | torch.device | None = None,
        *,
        precision: Precision = "fp32",
        compiled: bool = False,
    ) -> None:
        self.device = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.precision: Precision = precision
        if precision == "bf16" and self.device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ConfigError("--precision: this GPU has no bf16. Take fp32.")
        self._preprocessing = source.preprocessing
        network = folded(source.network)
        self._split = precision == "bf16" and split_first_convolution(network)
        self._type = torch.float32
        if precision == "bf16":
            self._type = torch.bfloat16
            network = to_bf16(network)
        network = network.to(device=self.device).to(memory_format=torch.channels_last)
        # Measured: in fp32 torch's own order of weights is faster. torch.compile writes its own.
        if self.device.type == "cpu" and precision == "bf16" and not compiled:
            channels = source.network.backbone.in_channels * (3 if self._split else 1)
            network = prepacked(network, channels)
        self._network = torch.compile(network, dynamic=False) if compiled else network

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits in float32 of images (N, C, H, W), uint8 or float32 from 0 to 1."""
        pixels = normalize(images.to(self.device), self._preprocessing)
        pixels = split_pixels(pixels) if self._split else pixels
        logits: Tensor = self._network(pixels.to(self._type).contiguous(memory_format=torch.channels_last))
        return logits.float()


def usable_device(device: str | torch.device) -> torch.device:
    """A device that is there.

    Raises:
        ConfigError: it is not, or torch knows none of that name.
    """
    try:
        found = torch.empty(0, device=device).device
    except (AssertionError, RuntimeError) as error:  # the first from a torch without CUDA
        raise ConfigError(f"--device: {device}: {first_line(error)}") from None
    if found.type == "meta":
        raise ConfigError("--device: meta computes nothing. Take cpu or cuda.")
    return found


@torch.inference_mode()
def plain_logits(source: AnyTrained, images: Tensor) -> Tensor:
    """What every engine is held to: the network as it was trained, in float32, without any of their changes.

    Shape: images (N, C, H, W), uint8 or float32 from 0 to 1, to float32 logits, on the CPU.
    """
    logits: Tensor = source.network(normalize(images.cpu(), source.preprocessing))
    return logits
