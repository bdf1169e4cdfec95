"""The configuration of a run: every key, its type, default, unit and meaning. The only home of defaults.

Models are closed (an unknown key is an error) and strict (a string is no number). Names of backbones, decoders
and data sets are open, because a user's script may register its own: `load.py` checks them against the registries.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _list_to_tuple(value: object) -> object:
    """YAML has lists only; strict tuples would refuse them."""
    return tuple(value) if isinstance(value, list) else value


def _square(value: object) -> object:
    """One number for a size means a square."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    return _list_to_tuple(value)


def _number_to_text(value: object) -> object:
    """`precision: 32` is an integer to YAML."""
    return str(value) if isinstance(value, int) else value


PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_square)]
Range = Annotated[tuple[PositiveFloat, PositiveFloat], BeforeValidator(_list_to_tuple)]
PerChannel = Annotated[tuple[float, ...], BeforeValidator(_list_to_tuple), Field(min_length=1)]
PositivePerChannel = Annotated[tuple[PositiveFloat, ...], BeforeValidator(_list_to_tuple), Field(min_length=1)]
ClassWeights = Annotated[tuple[NonNegativeFloat, ...], BeforeValidator(_list_to_tuple), Field(min_length=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(_list_to_tuple), Field(min_length=1)]


class Section(BaseModel):
    """A closed, strict, immutable part of the configuration."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class Preprocessing(Section):
    """How pixels become network input: `(pixel / 255 - mean) / std` for each channel, RGB order."""

    mean: PerChannel = (0.5, 0.5, 0.5)
    """Mean of each channel, in units of the full range (0 to 1). 0.5 puts images in [-1, 1], as Xception expects."""
    std: PositivePerChannel = (0.5, 0.5, 0.5)
    """Standard deviation of each channel, in units of the full range."""

    @model_validator(mode="after")
    def _one_length(self) -> "Preprocessing":
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} channels and std {len(self.std)}; give both the same number")
        return self


class SyntheticConfig(Section):
    """The built-in synthetic scenes: no files needed."""

    train_images: PositiveInt = 400
    """Images in the training split."""
    val_images: PositiveInt = 50
    """Images in the validation split, drawn from other seeds than training."""
    size: Size = (96, 128)
    """Height and width in pixels; one number is a square."""


class DataConfig(Section):
    """Where images and masks come from, and what training does to them."""

    name: str
    """Data set: voc, camvid, folder, synthetic, or one you registered."""
    root: str | None = None
    """Folder of the data set. voc: VOCdevkit or the VOC2012 inside it. synthetic needs none."""
    train_split: str = "train"
    """Split to train on."""
    val_split: str = "val"
    """Split to validate on."""
    classes: Names | None = None
    """folder only: class names in the order of the mask values; without it classes.txt, else class_0, class_1, ..."""
    synthetic: SyntheticConfig = SyntheticConfig()
    """synthetic only: how many images, how large."""
    preprocessing: Preprocessing = Preprocessing()
    """How pixels become network input."""
    batch_size: PositiveInt = 16
    """Images in one optimiser step."""
    crop_size: Size = (513, 513)
    """Height and width of training crops in pixels; one number is a square."""
    scale_range: Range = (0.5, 2.0)
    """Training images are scaled by a random factor from this range."""
    scale_step: NonNegativeFloat = 0.25
    """Distance between the factors of scale_range; 0 draws any factor in it."""
    flip_probability: Fraction = 0.5
    """Probability of a left-right flip in training."""
    num_workers: NonNegativeInt | None = None
    """Processes that read and augment; null takes one per core, at most 8, none for synthetic."""

    @model_validator(mode="after")
    def _ordered_range(self) -> "DataConfig":
        low, high = self.scale_range
        if low > high:
            raise ValueError(f"scale_range: {low} is above {high}; write the smaller factor first")
        return self


class BackboneConfig(Section):
    """The feature extractor."""

    name: str = "xception65"
    """Variant: `python tools/backbones.py` lists them."""
    width: PositiveFloat = 1.0
    """Multiplies every channel count; below 1 for small, fast networks."""
    weights: str | None = None
    """Published tag (imagenet; `python tools/backbones.py --weights` lists them), or path of a weights file or run
    directory; null starts from random weights. Weights set preprocessing, norm_eps and padding where you do not."""
    norm_eps: PositiveFloat | None = None
    """Added to the variance in the backbone's norms; null is the weights' own, without weights the variant's."""
    padding: Literal["symmetric", "same"] = "symmetric"
    """Padding of strided convolutions and pools: symmetric, or TensorFlow's same (Keras' numbers)."""
    stem_padding: Literal["padded", "valid"] = "padded"
    """Whether the stem pads: padded gives taps of ceil(H/s) pixels, which decoders need; valid is the classifiers'."""
    residual: bool = True
    """Shortcuts around modules (Xception paper, Fig. 9)."""
    depthwise_activation: Literal["none", "relu", "elu"] = "none"
    """Activation between the depthwise and the pointwise convolution (Xception paper, Fig. 10)."""
    depth_multiplier: PositiveInt = 1
    """Spatial filters per channel in a separable convolution."""
    pointwise_first: bool = False
    """Pointwise before depthwise, the paper's "extreme Inception" (Fig. 4)."""
    channel_segments: PositiveInt | None = None
    """Segments of channels that the spatial convolutions see apart: 1 is a plain convolution, null one per channel."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of leaving out the last module's body in training; less for earlier ones."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""


class ModelConfig(Section):
    """The network."""

    decoder: str = "deeplabv3plus_smp"
    """What turns taps into class scores: deeplabv3plus_smp, unet, or one you registered."""
    output_stride: Literal[8, 16, 32] = 16
    """Input size over the size of the deepest tap, in training and evaluation."""
    backbone: BackboneConfig = BackboneConfig()
    """The feature extractor."""
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.1
    """BatchNorm momentum, torch's sense. The paper's decay 0.9997 is 0.0003, for runs of 30,000 steps only."""


class LossConfig(Section):
    """What training minimises."""

    name: str = "cross_entropy"
    """Loss over the pixels that are not ignored: cross_entropy, or one you registered."""
    class_weights: ClassWeights | Literal["balanced"] | None = None
    """Weight of each class, in their order; balanced computes 1 / ln(1.02 + share of pixels) from the training masks,
    which helps thin and rare classes; null weighs all pixels alike."""


class OptimizerConfig(Section):
    """SGD or AdamW with the poly schedule: lr * (1 - step / max_steps) ^ power."""

    name: Literal["sgd", "adamw"] = "sgd"
    """sgd (momentum, no Nesterov) is the paper's; adamw learns faster in short runs from random weights."""
    learning_rate: PositiveFloat = 0.007
    """Learning rate at the first step after warm-up."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD's momentum; AdamW's first beta."""
    weight_decay: NonNegativeFloat = 4e-5
    """On convolution weights only: none on depthwise kernels, norms and biases."""
    bias_lr_factor: PositiveFloat = 2.0
    """Learning rate of biases over that of weights."""
    poly_power: NonNegativeFloat = 0.9
    """Power of the poly schedule; 0 keeps the rate constant."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which the rate grows linearly from near zero."""


class TrainerConfig(Section):
    """How long, how often, on what."""

    max_steps: PositiveInt | None = None
    """Optimiser steps in the run. Give this or max_epochs."""
    max_epochs: PositiveInt | None = None
    """Passes over the training split. Give this or max_steps."""
    val_every_steps: PositiveInt | None = None
    """Steps between validations; null validates once per pass over the training split."""
    log_every_steps: PositiveInt = 10
    """Steps between rows of metrics.csv."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Device type; auto takes a GPU where there is one."""
    devices: PositiveInt = 1
    """Devices to train on; this version takes one."""
    precision: Annotated[Literal["32", "bf16", "16"], BeforeValidator(_number_to_text)] = "32"
    """Arithmetic: float32, bfloat16 or float16 with loss scaling; weights stay float32."""
    channels_last: bool = True
    """Keep tensors in channels-last memory order: the same numbers, faster convolutions."""
    clip_norm: PositiveFloat | None = None
    """Largest gradient norm; null does not clip."""
    progress: bool = True
    """Show progress bars."""

    @model_validator(mode="after")
    def _one_length_of_run(self) -> "TrainerConfig":
        if (self.max_steps is None) == (self.max_epochs is None):
            raise ValueError("give exactly one of max_steps and max_epochs, and null for the other")
        return self


class EvaluationConfig(Section):
    """How validation and tools/evaluate.py measure: whole images, original resolution, one confusion matrix."""

    batch_size: PositiveInt = 1
    """Images read at a time; those of equal size run together. Does not change any number."""
    split: str | None = None
    """Split that tools/evaluate.py measures; null takes data.val_split."""


class RunConfig(Section):
    """One run: data, model, loss, optimizer, trainer, evaluation."""

    data: DataConfig
    """Where images and masks come from, and what training does to them."""
    model: ModelConfig = ModelConfig()
    """The network."""
    loss: LossConfig = LossConfig()
    """What training minimises."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How weights move."""
    trainer: TrainerConfig
    """How long, how often, on what."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How results are measured."""
    run_dir: str | None = None
    """Folder of this run; null is runs/<config>/<time>."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of weights, sample order and augmentation."""
