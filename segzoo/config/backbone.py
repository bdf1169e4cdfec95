"""What a backbone is built from: the section `model.backbone`, and the keywords of `build_backbone`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from segzoo.config.fields import Bands, FilePath, Section
from segzoo.config.parts import PartsSection

OutputStride = Literal[8, 16, 32]
Padding = Literal["symmetric", "same"]
StemPadding = Literal["padded", "valid"]
NormName = Literal["batch", "frozen", "group"]
DepthwiseActivation = Literal["none", "relu", "elu"]


class NormSettings(Section):
    """The norms of a backbone, and of what is built like it behind it."""

    norm: NormName = "batch"
    """Norms of the backbone; in a segmenter also of deeplabv3plus, of deeplabv3 and of the auxiliary head, while SMP's
    decoders keep their own. frozen is BatchNorm as loaded, which neither moves nor learns, and does nothing where
    nothing is loaded, as in a fresh decoder; group (GroupNorm) does not depend on the batch, but has no published
    weights."""
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of a new batch in BatchNorm's running statistics, where `norm` acts. The DeepLab papers' decay 0.9997 is
    0.0003, for runs of 30,000 steps only."""


class BackboneSwitches(Section):
    """The switches of the papers, with one meaning in configurations and in Python."""

    width: Annotated[float, Field(ge=0.01, le=8)] = 1.0
    """Multiplies every channel count, rounded to multiples of 8; below 1 for small, fast networks."""
    norm_eps: Annotated[float, Field(gt=0, le=1)] | None = None
    """Added to the variance in the backbone's norms; null is the weights' own, without weights the variant's."""
    padding: Padding = "symmetric"
    """Padding of strided convolutions and pools: symmetric, on both sides, for dense prediction; same is TensorFlow's
    rule and gives Keras' numbers for xception."""
    stem_padding: StemPadding = "padded"
    """Whether the stem pads: padded gives taps of ceil(H/s) pixels, which decoders need; valid is the stem of
    classifiers: of Chollet's network, of Keras, and of timm's legacy_xception."""
    residual: bool = True
    """Shortcuts around modules (Xception paper, section 4.6, Fig. 9)."""
    depthwise_activation: DepthwiseActivation = "none"
    """Activation between the depthwise and the pointwise half of a separable convolution (section 4.7, Fig. 10)."""
    depth_multiplier: Annotated[int, Field(ge=1, le=16)] = 1
    """Spatial filters per channel in a separable convolution (1 in the paper)."""
    pointwise_first: bool = False
    """Pointwise before depthwise, the paper's "extreme Inception" (section 1.2, Fig. 4)."""
    channel_segments: Annotated[int, Field(ge=1, le=2**16)] | None = None
    """Segments of channels that the spatial convolutions see apart: 1 is a plain convolution beside the pointwise one,
    null one segment per channel (sections 1.2 and 5)."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of leaving out the last module's body in training; less for earlier ones, in proportion."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""

    @model_validator(mode="after")
    def _several_filters_need_depthwise_first(self) -> Self:
        if self.pointwise_first and self.depth_multiplier != 1:
            raise ValueError("depth_multiplier needs the depthwise convolution first: set pointwise_first to false")
        return self


class BackboneOptions(BackboneSwitches, NormSettings):
    """What `build_backbone` builds a backbone from besides its name."""

    output_stride: OutputStride = 32
    """Image pixels between two pixels of the deepest feature map."""
    depth: Annotated[int, Field(ge=1, le=5)] = 5
    """Number of feature maps; modules that only deeper maps need are not built."""
    in_channels: Bands = 3
    """Channels of the image. Weights of RGB images are adapted, see `segzoo.backbones.weights`."""

    def with_default_eps(self, norm_eps: float) -> Self:
        """These options, with the variant's own eps where none was asked for."""
        return self if self.norm_eps is not None else self.model_copy(update={"norm_eps": norm_eps})


class _Origin(Section):
    name: str = "xception65"
    """Variant: `segzoo backbones` lists them."""
    weights: FilePath | None = None
    """Published tag (imagenet; `segzoo backbones --weights` lists them), path of a weights file, run directory
    or saved model, or owner/name of a saved model on the Hugging Face hub; null starts from random weights. A file may
    be Keras', timm's or DeepLab's: a TensorFlow checkpoint, its .tar.gz, or a frozen graph. Weights set preprocessing,
    norm_eps and padding where you do not."""


class BackboneConfig(BackboneSwitches, _Origin, PartsSection):
    """The feature extractor."""

    kind = "backbone"
    place = "model.backbone"

    @property
    def chosen(self) -> tuple[str, ...]:
        """The variant."""
        return (self.name,)
