"""The network that a user of SMP would take in place of ours, in our shape: for benchmarks, and to compare with."""

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from segzoo.backbones import Backbone, FeatureSpec
from segzoo.models.segmenter import Segmenter
from segzoo.models.smp.decoders import SmpDecoder
from segzoo.models.smp.encoders import PREFIX, register_smp_encoders

ENCODER = "tu-xception65"
"""timm's Xception-65, as SMP names it."""


class BaselineBackbone(Backbone):
    """One of SMP's encoders as a backbone.

    Args:
        encoder: SMP's.
        feature_specs: of its feature maps but the image.
        output_stride: of the deepest.
    """

    def __init__(self, encoder: nn.Module, feature_specs: tuple[FeatureSpec, ...], output_stride: int) -> None:
        super().__init__(feature_specs, output_stride=output_stride, in_channels=3)
        self.encoder = encoder

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps, without the image that SMP's encoders put first."""
        features: list[Tensor] = self.encoder(image)
        return features[1:]


def baseline_network(num_classes: int, encoder: str = ENCODER) -> nn.Module:
    """SMP's DeepLabV3+ at output stride 16 with random weights, as SMP's users make it, in evaluation mode.

    Args:
        num_classes: channels of the logits.
        encoder: SMP's name of it.
    """
    network: nn.Module = smp.DeepLabV3Plus(
        encoder, encoder_weights=None, encoder_output_stride=16, classes=num_classes, decoder_atrous_rates=(12, 24, 36)
    )
    return network.eval()


def baseline_with_our_encoder(num_classes: int, name: str, weights: str) -> nn.Module:
    """As `baseline_network`, on one of our encoders, which takes weights that SMP's do not.

    Args:
        num_classes: channels of the logits.
        name: the backbone's.
        weights: a tag or a path, as `build_backbone` takes it.

    Raises:
        CheckpointError: weights that do not fit.
    """
    register_smp_encoders()
    network = baseline_network(num_classes, PREFIX + name)
    network.get_submodule("encoder").load_weights(weights)  # type: ignore[operator]
    return network


def as_segmenter(network: nn.Module) -> Segmenter:
    """`baseline_network`'s result, for our engines: the same modules, so the same numbers.

    Args:
        network: at output stride 16.
    """
    encoder, decoder, head = (network.get_submodule(name) for name in ("encoder", "decoder", "segmentation_head"))
    channels = list(encoder.out_channels)[1:]  # type: ignore[arg-type]
    strides = [min(2 ** (index + 1), 16) for index in range(len(channels))]
    specs = tuple(
        FeatureSpec(count, stride, activated=True) for count, stride in zip(channels, strides, strict=True)
    )  # not that they were: SMP hands them to its decoder as they are
    return Segmenter(BaselineBackbone(encoder, specs, 16), SmpDecoder(specs, decoder, head, initialise=False)).eval()
