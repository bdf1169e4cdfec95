"""Building blocks of the Xception family: padded convolutions and pools, separable convolutions, norms, flows."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.utils.checkpoint import checkpoint

from segzoo.backbones.strides import STEM_CHANNELS, PlannedBlock, PlannedConvolution, scale_channels
from segzoo.config.model import BackboneOptions, DepthwiseActivation, NormName

# oneDNN 3.12, channels-last: the gradient of a strided 1×1 convolution writes past its workspace where the input has
# fewer channels than a vector has floats, 16 with AVX-512 (uxlfoundation/oneDNN issue 6035).
_NARROW = 16


class Convolution(nn.Conv2d):
    """A convolution without bias, padded by the network's rule.

    Args:
        padding: symmetric pads both sides alike, so that a strided kernel sits on every stride-th pixel; same is
            TensorFlow's rule, which at stride 2 pads an even size at its bottom and right only; valid pads nothing.
        dilation: the rate; two numbers are that of the rows and that of the columns.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        padding: Literal["symmetric", "same", "valid"] = "symmetric",
    ) -> None:
        # At stride 1 both rules agree; nothing in this package strides and dilates at once.
        pads_same = padding == "same" and stride > 1
        reach = 0 if pads_same or padding == "valid" else kernel_size // 2
        rows, columns = (dilation, dilation) if isinstance(dilation, int) else dilation
        margin = (rows * reach, columns * reach)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, margin, (rows, columns), groups=groups, bias=False
        )
        self.pads_same = pads_same

    def forward(self, x: Tensor) -> Tensor:
        """From (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride)), unless valid."""
        if self.pads_same:
            x = pad_same(x, self.kernel_size[0], self.stride[0], 0.0)
        return self._conv_forward(x, self.weight, None)


class Sampling(nn.Module):
    """Every stride-th pixel: what a strided 1×1 convolution sees of its input."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """From (N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
        return x[..., :: self.stride, :: self.stride]


class MaxPool(nn.Module):
    """3×3 max-pooling that can dilate, for the pools that give up their stride.

    `max_pool2d` refuses a padding above half its kernel, and dilation 2 needs 2: so the margin is made here, of minus
    infinity, which no maximum can pick. Zero would win over negative features.
    """

    def __init__(self, stride: int, dilation: int, padding: Literal["symmetric", "same"]) -> None:
        super().__init__()
        self.stride = stride
        self.dilation = dilation
        self.pads_same = padding == "same" and stride > 1

    def forward(self, x: Tensor) -> Tensor:
        """From (N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
        if self.pads_same:
            return F.max_pool2d(pad_same(x, 3, self.stride, -torch.inf), 3, self.stride)
        if self.dilation == 1:
            return F.max_pool2d(x, 3, self.stride, 1)  # pads with minus infinity itself
        margin = self.dilation
        x = F.pad(x, [margin, margin, margin, margin], value=-torch.inf)
        return F.max_pool2d(x, 3, self.stride, 0, self.dilation)


def pad_same(x: Tensor, kernel_size: int, stride: int, value: float) -> Tensor:
    """Pad as TensorFlow's `padding="same"` does: as little as it takes, the odd pixel at the bottom and the right.

    For kernels no smaller than their stride.
    """
    vertical = kernel_size - 1 - (x.shape[-2] - 1) % stride
    horizontal = kernel_size - 1 - (x.shape[-1] - 1) % stride
    top, left = vertical // 2, horizontal // 2
    return F.pad(x, [left, horizontal - left, top, vertical - top], value=value)


class SeparableConvolution(nn.Sequential):
    """A depthwise separable convolution: space first, one channel at a time, then channels, one pixel at a time.

    The switches of the paper act here:

    * `depthwise_activation` stands between the two (section 4.7, Fig. 10: none is best).
    * `depth_multiplier` spatial filters look at each channel (section 3; 1 in the paper's network).
    * `pointwise_first` mixes channels first: the "extreme Inception" of Fig. 4; section 1.2 says why the order
      should not matter in a deep stack.
    * `channel_segments` is the continuum of sections 1.2 and 5: one segment makes the spatial convolution a plain
      one, one per channel (the default) depthwise. A layer takes the largest divisor of its channels that is not
      above.

    Args:
        norm_between: Chen et al. put a BatchNorm between the two, Chollet does not.
    """

    def __init__(
        self,
        planned: PlannedConvolution,
        options: BackboneOptions,
        *,
        norm_between: bool = False,
        activation: DepthwiseActivation = "none",
    ) -> None:
        seen = planned.out_channels if options.pointwise_first else planned.in_channels
        filtered = seen * options.depth_multiplier
        depthwise = Convolution(
            seen,
            filtered,
            3,
            stride=planned.stride,
            dilation=planned.dilation,
            groups=largest_divisor(seen, options.channel_segments or seen),
            padding=options.padding,
        )
        mixed = planned.in_channels if options.pointwise_first else filtered
        pointwise = Convolution(mixed, planned.out_channels, 1)
        convolutions: list[tuple[str, nn.Module]] = [("depthwise", depthwise), ("pointwise", pointwise)]
        if options.pointwise_first:
            convolutions.reverse()
        between: list[tuple[str, nn.Module]] = []
        if norm_between:
            between.append(("norm", norm(filtered, options)))
        if activation != "none":
            between.append(("activation", nn.ReLU() if activation == "relu" else nn.ELU()))
        super().__init__(OrderedDict([convolutions[0], *between, convolutions[1]]))


def separable_layers(
    planned: PlannedBlock, options: BackboneOptions, *, norm_between: bool = False
) -> Iterator[nn.Sequential]:
    """The separable convolutions of a block, each with its BatchNorm and its ReLU where the table puts one."""
    relu = planned.block.relu
    # Chen et al.'s last block has a ReLU behind depthwise and pointwise convolutions, whatever the switch says.
    activation = "relu" if norm_between and relu == "after" else options.depthwise_activation
    for index, convolution in enumerate(planned.convolutions):
        separable = SeparableConvolution(convolution, options, norm_between=norm_between, activation=activation)
        layers = OrderedDict[str, nn.Module](separable=separable, norm=norm(convolution.out_channels, options))
        if relu == "before" or (relu == "between" and index > 0):
            layers = OrderedDict(relu=nn.ReLU(), **layers)
        elif relu == "after":
            layers["relu"] = nn.ReLU()
        yield nn.Sequential(layers)


def shortcut(planned: PlannedBlock, options: BackboneOptions, *, with_norm: bool = True) -> nn.Module | None:
    """The linear residual connection around a block: identity where shapes agree, else a 1×1 convolution.

    `residual=False` leaves it out (Chollet, section 4.6, Fig. 9: convergence slows and ends lower).
    """
    if planned.shortcut == "none" or not options.residual:
        return None
    if planned.shortcut == "identity":
        return nn.Identity()
    out_channels = planned.block.channels[-1]
    layers, stride = OrderedDict[str, nn.Module](), planned.stride
    if stride > 1 and planned.in_channels < _NARROW:
        layers["sampling"], stride = Sampling(stride), 1
    layers["convolution"] = Convolution(planned.in_channels, out_channels, 1, stride=stride)
    if with_norm:
        layers["norm"] = norm(out_channels, options)
    return nn.Sequential(layers)


def norm(channels: int, options: BackboneOptions) -> nn.Module:
    """The normalisation that the options name."""
    if options.norm_eps is None:
        raise ValueError("norm_eps is not resolved: the variant's builder sets it")
    return named_norm(options.norm, channels, eps=options.norm_eps, momentum=options.norm_momentum)


def named_norm(name: NormName, channels: int, *, eps: float, momentum: float) -> nn.Module:
    """BatchNorm, FrozenBatchNorm or GroupNorm.

    GroupNorm takes the most groups that divide the channels, at most 32: 728 channels make 28 groups of 26.
    """
    if name == "group":
        return nn.GroupNorm(group_count(channels), channels, eps=eps)
    kind = FrozenBatchNorm if name == "frozen" else nn.BatchNorm2d
    return kind(channels, eps=eps, momentum=momentum)


def group_count(channels: int) -> int:
    """The number of groups that GroupNorm makes of so many channels."""
    return largest_divisor(channels, 32)


class FrozenBatchNorm(_NormBase):
    """BatchNorm that never learns: statistics and affine stay as loaded, also in `train()`.

    For fine-tuning with batches too small for statistics. Its `state_dict` is BatchNorm's. It is no `nn.BatchNorm2d`,
    for torch would make a SyncBatchNorm of that on several GPUs, whose statistics move.
    """

    def __init__(self, channels: int, *, eps: float, momentum: float) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W) by the statistics as loaded."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def largest_divisor(number: int, at_most: int) -> int:
    """The largest divisor of a number that is not above a bound.

    >>> largest_divisor(728, 32), largest_divisor(64, 32)
    (28, 32)
    """
    return next(divisor for divisor in range(min(number, at_most), 0, -1) if number % divisor == 0)


class DropPath(nn.Module):
    """Stochastic depth: in training, leave out a block's body for a random part of the images.

    Source: Huang et al., arXiv:1603.09382v3, section 3, scaled up in training rather than down in evaluation.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Keep each image's features (N, C, H, W) with probability 1 - rate, scaled so that the mean stays."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        return x * (torch.rand(x.shape[0], 1, 1, 1, device=x.device, dtype=x.dtype) < keep) / keep


class Stem(nn.Module):
    """Two 3×3 convolutions that open the entry flow, 32 channels at stride 2 and 64, each with BatchNorm and ReLU.

    Args:
        activated: whether the second has its own norm and ReLU; a pre-activation network has them behind it.
    """

    def __init__(self, options: BackboneOptions, *, activated: bool = True) -> None:
        super().__init__()
        first, second = (scale_channels(channels, options.width) for channels in STEM_CHANNELS)
        padding = "valid" if options.stem_padding == "valid" else options.padding
        self.conv1 = Convolution(options.in_channels, first, 3, stride=2, padding=padding)
        self.norm1 = norm(first, options)
        self.conv2 = Convolution(first, second, 3, padding=padding)
        self.norm2 = norm(second, options) if activated else nn.Identity()
        self.relu2 = nn.ReLU() if activated else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """From (N, in_channels, H, W) to (N, 64 * width, ceil(H / 2), ceil(W / 2)), unless valid."""
        x = torch.relu(self.norm1(self.conv1(image)))
        return self.relu2(self.norm2(self.conv2(x)))


class Flow(nn.ModuleList):
    """Blocks one behind the other; the tensor before each stride is kept.

    Args:
        modules: each returns the tensor before its stride, and its output.
        tapped: for each block, whether the former is one of the network's feature maps.
        checkpointed: recompute activations in the backward pass instead of keeping them (gradient checkpointing).
    """

    def __init__(self, modules: Iterable[nn.Module], *, tapped: list[bool], checkpointed: bool) -> None:
        super().__init__(modules)
        self.tapped = tapped
        self.checkpointed = checkpointed

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Run the blocks on (N, C, H, W): the output of the last one, and the feature maps on the way to it."""
        taps: list[Tensor] = []
        for index, module in enumerate(self):
            if self.checkpointed and self.training:
                before_stride, x = self._run_checkpointed(index, x)
            else:
                before_stride, x = module(x)
            if self.tapped[index]:
                taps.append(before_stride)
        return x, taps

    @torch.jit.unused  # TorchScript is for inference
    def _run_checkpointed(self, index: int, x: Tensor) -> tuple[Tensor, Tensor]:
        contexts = partial(_recomputing_contexts, self[index])
        before_stride, out = checkpoint(self[index], x, use_reentrant=False, context_fn=contexts)
        return before_stride, out


def _recomputing_contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _unmoved_statistics(module)


@contextmanager
def _unmoved_statistics(module: nn.Module) -> Iterator[None]:
    """Run BatchNorms without moving their statistics: the second run of a batch must not count it twice."""
    norms = [child for child in module.modules() if isinstance(child, _BatchNorm)]  # SyncBatchNorm is one, too
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, count) in zip(norms, kept, strict=True):
        norm.momentum, norm.num_batches_tracked = 0.0, None if count is None else count.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def variance_preserving(module: nn.Module) -> None:
    """Give a convolution normal weights that keep the scale of features: gain √2 behind a ReLU, 1 behind none.

    A 3×3 kernel stands behind a ReLU, a 1×1 kernel behind a depthwise convolution or in a shortcut. The fan is the
    input's: a depthwise kernel sums 9 numbers, and scaled for 9 times its channels its output would drown in
    BatchNorm's eps.

    Source: He et al., arXiv:1502.01852v1, section 2.2.
    """
    if isinstance(module, nn.Conv2d):
        nonlinearity: Literal["linear", "relu"] = "linear" if module.kernel_size == (1, 1) else "relu"
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity=nonlinearity)


def truncated_normal(module: nn.Module) -> None:
    """Give a convolution normal weights of deviation 0.09, cut at twice that, as DeepLab's code does."""
    if isinstance(module, nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.09, a=-0.18, b=0.18)
