"""Xception: 36 convolutions in 14 blocks, all but the two of the stem depthwise separable.

Read it beside Fig. 5 of the paper: a stem, then an entry flow that shrinks the image, a middle flow of eight equal
blocks, and an exit flow that widens to 2048 channels. The dense-prediction parts, output stride and feature maps,
are ours and marked so.

Source: Chollet, Xception: Deep Learning with Depthwise Separable Convolutions, CVPR 2017, arXiv:1610.02357v3.
"""

from collections.abc import Callable

from torch import Tensor, nn

from segzoo.backbones.layers import DropPath, Flow, MaxPool, Stem, separable_layers, shortcut, variance_preserving
from segzoo.backbones.spec import Backbone
from segzoo.backbones.strides import Block, FlowName, PlannedBlock, feature_specs, plan_blocks, truncate
from segzoo.config.model import BackboneOptions

# Fig. 5, block by block ("module" in the paper). The stem stands in front of them, the classifier behind.
XCEPTION = (
    Block("entry_flow", (128, 128), stride=2, pool=True, relu="between"),  # the stem has just applied its ReLU
    Block("entry_flow", (256, 256), stride=2, pool=True),
    Block("entry_flow", (728, 728), stride=2, pool=True),
    *[Block("middle_flow", (728, 728, 728))] * 8,
    Block("exit_flow", (728, 1024), stride=2, pool=True),
    Block("exit_flow", (1536, 2048), residual=False, relu="after"),
)


class XceptionBlock(nn.Module):
    """One block of Fig. 5: separable convolutions, a max-pool where the network shrinks, a linear residual around.

    Each separable convolution stands between its ReLU and its BatchNorm; there is no non-linearity inside it.
    """

    def __init__(self, planned: PlannedBlock, options: BackboneOptions) -> None:
        super().__init__()
        shrinks = planned.block.pool
        self.layers = nn.Sequential(*separable_layers(planned, options))
        # Ours: at a small output stride the pool stays, without its stride but with the rate of its input.
        self.pool = MaxPool(planned.stride, planned.dilation, options.padding) if shrinks else nn.Identity()
        self.shortcut = shortcut(planned, options)
        self.drop_path = DropPath(options.drop_path * planned.position)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the block.

        Shape:
            x: (N, C, H, W). Returns (N, C', H, W), the tensor before the stride, and the block's output
            (N, C', ceil(H / stride), ceil(W / stride)).
        """
        before_stride = self.layers(x)
        out = self.pool(before_stride)
        if self.shortcut is not None:
            out = self.drop_path(out) + self.shortcut(x)
        return before_stride, out


class Xception(Backbone):
    """A stem and three flows of blocks.

    Args:
        blocks: the table.
        options: everything else; `norm_eps` must be set.
        block: builds one block of the table.
        activated_stem: whether the stem ends in a norm and a ReLU.
        initialise: gives a convolution its first weights.

    Source: arXiv:1610.02357v3, Fig. 5. Departures: five feature maps come out instead of class scores; the stem pads
    by default, so that maps have ceil(size / stride) pixels (`stem_padding="valid"` is the paper's own); output
    strides 8 and 16; weights start as He et al. propose (the paper states nothing, Keras would start as Glorot).
    """

    def __init__(
        self,
        blocks: tuple[Block, ...],
        options: BackboneOptions,
        block: Callable[[PlannedBlock, BackboneOptions], nn.Module] = XceptionBlock,
        *,
        activated_stem: bool = True,
        initialise: Callable[[nn.Module], None] = variance_preserving,
    ) -> None:
        full_plan = plan_blocks(blocks, options.output_stride, options.width)
        plan = truncate(full_plan, options.depth)
        specs = feature_specs(plan)
        super().__init__(specs, output_stride=specs[-1].stride, in_channels=options.in_channels)
        self.plan, self.full_plan = plan, full_plan

        def flow(name: FlowName) -> Flow:
            planned = [one for one in plan if one.block.flow == name]
            built = [block(one, options) for one in planned]
            tapped = [one.is_tapped for one in planned]
            return Flow(built, tapped=tapped, checkpointed=options.gradient_checkpointing)

        self.stem = Stem(options, activated=activated_stem)
        self.entry_flow = flow("entry_flow")
        self.middle_flow = flow("middle_flow")
        self.exit_flow = flow("exit_flow")
        self.apply(initialise)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the feature maps.

        Shape:
            image: (N, in_channels, H, W). Returns five maps, (N, channels, ceil(H / stride), ceil(W / stride)) each
            as `feature_specs` says; the stem without padding makes them a little smaller.
        """
        x = self.stem(image)
        x, taps = self.entry_flow(x)
        x, _ = self.middle_flow(x)
        x, exit_taps = self.exit_flow(x)
        taps.extend(exit_taps)
        taps.append(x)
        return taps
