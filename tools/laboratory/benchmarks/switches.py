"""What everybody who uses torch can switch on to make a network faster."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segzoo.models.agreement import Precision


@dataclass(frozen=True)
class Switches:
    """Those that are on; none is plain eager float32.

    Args:
        channels_last: keep tensors in that memory order.
        autocast: let torch choose bfloat16 operation by operation.
        bfloat16: weights and activations in bfloat16, norms included.
        compiled: torch.compile; in inference with weights frozen into the graph.
        fused: of training: the optimiser in one pass.
        recompute: of our training: `trainer.recompute`.
    """

    channels_last: bool = False
    autocast: bool = False
    bfloat16: bool = False
    compiled: bool = False
    fused: bool = False
    recompute: bool = False

    @property
    def name(self) -> str:
        """Those that are on, in words.

        >>> Switches().name, Switches(channels_last=True, compiled=True).name
        ('eager', 'channels_last, compiled')
        """
        names = [name for name, is_on in vars(self).items() if is_on]
        return ", ".join(names) or "eager"

    @property
    def precision(self) -> Precision:
        """What convolutions compute in."""
        return "bf16" if self.autocast or self.bfloat16 else "fp32"

    def ready(self, network: nn.Module, device: str) -> nn.Module:
        """The network, changed in place, or what stands for it when compiled."""
        network = network.to(device)
        if self.bfloat16:
            network = network.to(torch.bfloat16)
        if self.channels_last:
            network = network.to(memory_format=torch.channels_last)
        if self.compiled:
            network.compile(dynamic=False)
        return network

    def ready_image(self, image: Tensor, device: str) -> Tensor:
        """A batch as `ready`'s network takes it."""
        image = image.to(device, torch.bfloat16 if self.bfloat16 else None)
        return image.contiguous(memory_format=torch.channels_last) if self.channels_last else image

    @contextmanager
    def on(self, device: str) -> Iterator[None]:
        """What has to be on while the network computes."""
        with ExitStack() as stack:
            if self.autocast:
                stack.enter_context(torch.autocast(torch.device(device).type, torch.bfloat16))
            if self.compiled and not torch.is_grad_enabled():
                from torch._inductor import config as inductor  # takes a second, and only compiling needs it

                stack.enter_context(inductor.patch(freezing=True))
            yield


class Switched:
    """What a case with `switches` says of itself."""

    switches: Switches

    @property
    def way(self) -> str:
        """What is switched on."""
        return self.switches.name

    @property
    def precision(self) -> Precision:
        """Of the convolutions."""
        return self.switches.precision

    @property
    def compiled(self) -> bool:
        """Whether the first run compiles."""
        return self.switches.compiled
