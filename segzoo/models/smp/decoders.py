"""SMP's decoders on segzoo's backbones, with SMP's own defaults.

They want a list that starts with the image, and activated features. Only the size of that first entry is ever read, so
a tensor without channels stands in for it.

Source: segmentation_models_pytorch 0.6. Everywhere else than there, the backbone is dilated where the output stride
asks for it; sizes that SMP refuses are padded and cropped; taps pass the ReLU that they are taken before.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3Decoder, DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.linknet.decoder import LinknetDecoder
from segmentation_models_pytorch.decoders.manet.decoder import MAnetDecoder
from segmentation_models_pytorch.decoders.pan.decoder import PANDecoder
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPDecoder
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from torch import Tensor, nn

from segzoo.backbones import FeatureSpec
from segzoo.config.model import (
    FpnConfig,
    LinknetConfig,
    ManetConfig,
    Norm,
    PanConfig,
    PspnetConfig,
    SegformerConfig,
    SmpDeepLabV3Config,
    SmpDeepLabV3PlusConfig,
    UnetConfig,
    UpernetConfig,
)
from segzoo.config.schema import ModelConfig
from segzoo.config.sections import Options
from segzoo.models.decoder import Decoder, register_decoder

LINKNET_CHANNELS = 32  # in front of its head; SMP has no setting for it
DOUBLING = (32,)  # of decoders that double their map at every step: dilated taps do not double
PAN_PIXELS = 8  # its attention halves the deepest map three times
IMAGE_CHANNELS = 3  # of the image that stands first in SMP's channel list; no decoder convolves it
NORMS: dict[Norm, str | dict[str, str | bool]] = {
    "batch": "batchnorm",
    "instance": {"type": "instancenorm", "affine": True},  # without, SMP finds no weights to initialise
    "none": "identity",
}

SmpBuilder = Callable[[Sequence[FeatureSpec], int, Options], Decoder]
"""What builds one of SMP's decoders: of the model section it reads its own options only."""


class SmpDecoder(Decoder):
    """One of SMP's decoders with its segmentation head.

    Sizes are padded to multiples of the output stride, as SMP demands.

    Args:
        head: SMP's segmentation head; its upsampling reaches the image's size.
        minimum_pixels: height and width that the deepest tap needs.
        initialise: draw weights as SMP's models do; its DeepLabs keep torch's.
        follows_stride: see `Decoder`; most have convolutions on the dilated taps.
    """

    def __init__(
        self,
        features: Sequence[FeatureSpec],
        decoder: nn.Module,
        head: SegmentationHead,
        *,
        minimum_pixels: int = 1,
        initialise: bool = True,
        follows_stride: bool = False,
    ) -> None:
        super().__init__()
        self.activated = tuple(spec.activated for spec in features)
        self.follows_stride = follows_stride
        self.decoder = decoder
        self.head = head
        self.size_multiple = features[-1].stride
        self.minimum_size = minimum_pixels * features[-1].stride
        if initialise:
            initialize_decoder(decoder)
            initialize_head(head)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Logits of `size`; taps that are not activated yet pass a ReLU first."""
        active = [feature if done else F.relu(feature) for feature, done in zip(features, self.activated, strict=True)]
        image = features[0].new_empty((features[0].shape[0], 0, *size))
        logits: Tensor = self.head(self.decoder([image, *active]))
        return logits


def smp_decoder(
    name: str, options: type[Options], *, output_strides: tuple[int, ...] = (8, 16, 32)
) -> Callable[[SmpBuilder[Options]], SmpBuilder[Options]]:
    """Register one of SMP's decoders; arguments as for `register_decoder`."""

    def register(build: SmpBuilder[Options]) -> SmpBuilder[Options]:
        @register_decoder(name, options=options, output_strides=output_strides)
        def built(features: Sequence[FeatureSpec], num_classes: int, _: ModelConfig, own: Options) -> Decoder:
            return build(features, num_classes, own)

        return build

    return register


@smp_decoder("deeplabv3plus_smp", SmpDeepLabV3PlusConfig, output_strides=(8, 16))
def deeplabv3plus_smp(features: Sequence[FeatureSpec], num_classes: int, options: SmpDeepLabV3PlusConfig) -> Decoder:
    """SMP's DeepLabV3+.

    Source: Against arXiv:1802.02611: no norm and ReLU between depthwise and pointwise, one more separable convolution
        before upsampling, one convolution instead of two after the concatenation, dropout 0.5, and rates 12/24/36 at
        every output stride.
    """
    decoder = DeepLabV3PlusDecoder(
        encoder_channels=smp_channels(features),
        encoder_depth=5,
        out_channels=options.channels,
        atrous_rates=options.atrous_rates,
        output_stride=features[-1].stride,
        aspp_separable=options.separable,
        aspp_dropout=options.dropout,
    )
    head = SegmentationHead(options.channels, num_classes, kernel_size=1, upsampling=4)
    return SmpDecoder(features, decoder, head, initialise=False)


@smp_decoder("deeplabv3_smp", SmpDeepLabV3Config, output_strides=(8, 16))
def deeplabv3_smp(features: Sequence[FeatureSpec], num_classes: int, options: SmpDeepLabV3Config) -> Decoder:
    """SMP's DeepLabV3.

    Source: Against arXiv:1706.05587: a 3×3 convolution behind the pyramid, dropout 0.5, and rates 12/24/36 at every
        output stride.
    """
    decoder = DeepLabV3Decoder(
        in_channels=features[-1].channels,
        out_channels=options.channels,
        atrous_rates=options.atrous_rates,
        aspp_separable=options.separable,
        aspp_dropout=options.dropout,
    )
    head = SegmentationHead(options.channels, num_classes, kernel_size=1, upsampling=features[-1].stride)
    return SmpDecoder(features, decoder, head, initialise=False)


@smp_decoder("unet", UnetConfig)
def unet(features: Sequence[FeatureSpec], num_classes: int, options: UnetConfig) -> Decoder:
    """SMP's U-Net. Each block resizes to the next tap, so dilated taps, of equal sizes, fit as well.

    Source: arXiv:1505.04597, with padding and nearest upsampling.
    """
    return _with_skips(UnetDecoder, features, num_classes, options)


@smp_decoder("unetplusplus", UnetConfig, output_strides=DOUBLING)
def unetplusplus(features: Sequence[FeatureSpec], num_classes: int, options: UnetConfig) -> Decoder:
    """SMP's U-Net++.

    Source: arXiv:1807.10165, without deep supervision.
    """
    return _with_skips(UnetPlusPlusDecoder, features, num_classes, options)


@smp_decoder("fpn", FpnConfig, output_strides=DOUBLING)
def fpn(features: Sequence[FeatureSpec], num_classes: int, options: FpnConfig) -> Decoder:
    """SMP's feature pyramid network.

    Source: arXiv:1612.03144 with the branches of arXiv:1901.02446.
    """
    decoder = FPNDecoder(
        smp_channels(features),
        pyramid_channels=options.pyramid_channels,
        segmentation_channels=options.segmentation_channels,
        dropout=options.dropout,
        merge_policy=options.merge,
        interpolation_mode=options.interpolation,
    )
    head = SegmentationHead(decoder.out_channels, num_classes, kernel_size=1, upsampling=4)
    return SmpDecoder(features, decoder, head)


@smp_decoder("pspnet", PspnetConfig)
def pspnet(features: Sequence[FeatureSpec], num_classes: int, options: PspnetConfig) -> Decoder:
    """SMP's PSPNet on the deepest tap.

    Source: arXiv:1612.01105, whose backbone is whole and dilated to output stride 8. SMP's default is another one: the
        backbone's first three stages only. Its upsampling is then 8; here it is the output stride.
    """
    decoder = PSPDecoder(
        smp_channels(features),
        use_norm=NORMS[options.norm],
        out_channels=options.channels,
        dropout=options.dropout,
    )
    head = SegmentationHead(options.channels, num_classes, kernel_size=3, upsampling=features[-1].stride)
    return SmpDecoder(features, decoder, head, minimum_pixels=pixels_for(options.norm))


@smp_decoder("pan", PanConfig, output_strides=(16, 32))
def pan(features: Sequence[FeatureSpec], num_classes: int, options: PanConfig) -> Decoder:
    """SMP's pyramid attention network. Images are padded until the deepest tap has 8×8 pixels.

    Source: arXiv:1805.10180.
    """
    decoder = PANDecoder(
        smp_channels(features),
        encoder_depth=5,
        decoder_channels=options.channels,
        interpolation_mode=options.interpolation,
    )
    head = SegmentationHead(options.channels, num_classes, kernel_size=3, upsampling=4)
    return SmpDecoder(features, decoder, head, minimum_pixels=PAN_PIXELS)


@smp_decoder("linknet", LinknetConfig, output_strides=DOUBLING)
def linknet(features: Sequence[FeatureSpec], num_classes: int, options: LinknetConfig) -> Decoder:
    """SMP's Linknet.

    Source: arXiv:1707.03718.
    """
    decoder = LinknetDecoder(smp_channels(features), LINKNET_CHANNELS, use_norm=NORMS[options.norm])
    head = SegmentationHead(LINKNET_CHANNELS, num_classes, kernel_size=1)
    return SmpDecoder(features, decoder, head, minimum_pixels=pixels_for(options.norm))


@smp_decoder("manet", ManetConfig, output_strides=DOUBLING)
def manet(features: Sequence[FeatureSpec], num_classes: int, options: ManetConfig) -> Decoder:
    """SMP's multi-scale attention network.

    Source: arXiv:2009.02130.
    """
    decoder = MAnetDecoder(
        smp_channels(features),
        list(options.channels),
        use_norm=NORMS[options.norm],
        pab_channels=options.pab_channels,
        interpolation_mode=options.interpolation,
    )
    head = SegmentationHead(options.channels[-1], num_classes, kernel_size=3)
    return SmpDecoder(features, decoder, head, minimum_pixels=pixels_for(options.norm))


@smp_decoder("upernet", UpernetConfig)
def upernet(features: Sequence[FeatureSpec], num_classes: int, options: UpernetConfig) -> Decoder:
    """SMP's unified perceptual parsing network.

    Source: arXiv:1807.10221.
    """
    decoder = UPerNetDecoder(smp_channels(features), decoder_channels=options.channels)
    head = SegmentationHead(options.channels, num_classes, kernel_size=1, upsampling=4)
    return SmpDecoder(features, decoder, head)


@smp_decoder("segformer", SegformerConfig)
def segformer(features: Sequence[FeatureSpec], num_classes: int, options: SegformerConfig) -> Decoder:
    """SMP's SegFormer decoder.

    Source: arXiv:2105.15203, on five taps instead of four.
    """
    decoder = SegformerDecoder(smp_channels(features), segmentation_channels=options.channels)
    head = SegmentationHead(options.channels, num_classes, kernel_size=1, upsampling=4)
    return SmpDecoder(features, decoder, head, follows_stride=True)


def _with_skips(
    kind: type[UnetDecoder] | type[UnetPlusPlusDecoder],
    features: Sequence[FeatureSpec],
    num_classes: int,
    options: UnetConfig,
) -> SmpDecoder:
    decoder = kind(
        smp_channels(features),
        options.channels,
        use_norm=NORMS[options.norm],
        attention_type=None if options.attention == "none" else options.attention,
        interpolation_mode=options.interpolation,
    )
    head = SegmentationHead(options.channels[-1], num_classes, kernel_size=3)
    return SmpDecoder(features, decoder, head, minimum_pixels=pixels_for(options.norm))


def smp_channels(features: Sequence[FeatureSpec]) -> list[int]:
    """Channels as SMP lists them, the image's first."""
    return [IMAGE_CHANNELS, *(spec.channels for spec in features)]


def pixels_for(norm: Norm) -> int:
    """Height and width that a norm needs: instance norm has no variance of a single pixel."""
    return 2 if norm == "instance" else 1
