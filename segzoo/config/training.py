"""The `loss`, `optimizer` and `trainer` sections: what is minimised, how weights move, how long and on what."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from segzoo.config.sections import (
    ClassWeights,
    Fraction,
    ListOf,
    NonNegativeFloat,
    NonNegativeInt,
    OpenFraction,
    PartsSection,
    PositiveFloat,
    PositiveFraction,
    PositiveInt,
    Probability,
    Section,
    number_to_text,
)
from segzoo.errors import did_you_mean, shortened


class HardPixelConfig(Section):
    """cross_entropy only: which pixels it learns from; all of them by default."""

    fraction: PositiveFraction = 1.0
    """Share of the pixels that count, those with the largest loss (DeepLab's top-k); 1 is all."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which that share falls from all pixels to fraction."""
    threshold: OpenFraction | None = None
    """Only pixels whose true class gets a lower probability count (OHEM, often 0.7); null counts all."""
    min_kept: PositiveInt = 100_000
    """With threshold: pixels per image that count at least, those with the lowest probability."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.threshold is not None and self.fraction < 1:
            raise ValueError("fraction and threshold are two ways to choose pixels; give one")
        if self.warmup_steps and self.fraction == 1:
            raise ValueError("warmup_steps needs a fraction below 1")
        if self.threshold is None and self.min_kept != type(self).model_fields["min_kept"].default:
            raise ValueError("min_kept needs a threshold")
        return self


class DiceConfig(Section):
    """dice only."""

    mode: Literal["softmax", "sigmoid"] = "softmax"
    """softmax: classes exclude each other; sigmoid: each class against the rest."""
    smooth: NonNegativeFloat = 0.0
    """Pixels added to both sides of the ratio, which soften it for small objects."""


class FocalConfig(Section):
    """focal only."""

    mode: Literal["softmax", "sigmoid"] = "softmax"
    """softmax: classes exclude each other; sigmoid: each class against the rest, summed over classes."""
    gamma: Annotated[float, Field(ge=0, le=100)] = 2.0
    """How much well-classified pixels are played down; 0 is cross-entropy."""
    alpha: Fraction | None = None
    """sigmoid only: weight of a pixel's own class; the others get 1 - alpha. null weighs them alike."""

    @model_validator(mode="after")
    def _alpha_of_sigmoid(self) -> Self:
        if self.alpha is not None and self.mode == "softmax":
            raise ValueError("alpha needs mode sigmoid; with softmax take loss.class_weights")
        return self


class LovaszConfig(Section):
    """lovasz only."""

    mode: Literal["softmax", "hinge"] = "softmax"
    """softmax: on probabilities of classes that exclude each other; hinge: on logits, each class against the rest."""
    per_image: bool = False
    """Mean of each image's loss, instead of one loss of all pixels in the batch."""


class LossConfig(PartsSection):
    """What training minimises: one loss, or a weighted sum."""

    kind = "loss"
    place = "loss"

    name: str = "cross_entropy"
    """Loss over the pixels that are not ignored: cross_entropy, binary_cross_entropy (each class against the rest),
    dice, focal, lovasz, or one you registered."""
    add: dict[str, PositiveFloat] = Field(default={})
    """Further losses and their weights: {dice: 0.5} adds half of Dice to `name`; or loss.add.dice=0.5."""
    class_weights: ClassWeights | Literal["balanced"] | None = None
    """Weight of each class, in their order; balanced computes 1 / ln(1.02 + share of pixels) from the training masks,
    which helps thin and rare classes; null weighs all pixels alike. For cross_entropy, binary_cross_entropy, focal."""
    label_smoothing: Probability = 0.0
    """cross_entropy only: share of the target that is spread over all classes."""
    hard_pixels: HardPixelConfig = HardPixelConfig()
    """cross_entropy only: which pixels it learns from."""
    dice: DiceConfig = DiceConfig()
    """dice only."""
    focal: FocalConfig = FocalConfig()
    """focal only."""
    lovasz: LovaszConfig = LovaszConfig()
    """lovasz only."""

    @property
    def chosen(self) -> tuple[str, ...]:
        """All losses in the sum."""
        return (self.name, *self.add)


_ADAPTIVE = {"adamw": (0.999, 1e-8), "rmsprop": (0.9, 1e-10)}
"""Optimiser -> the square_decay and epsilon that null stands for: AdamW's are torch's, RMSprop's TensorFlow's."""


STEP_PERIODS = ("step_every", "step_every_epochs", "step_every_images")
"""What the step schedule may count between two changes of the rate."""


class OptimizerConfig(Section):
    """How weights move: optimiser, learning rate over time and over the network, averaging."""

    name: Literal["sgd", "adamw", "rmsprop"] = "sgd"
    """sgd (momentum, no Nesterov) is the paper's; adamw learns faster in short runs from random weights; rmsprop is
    TensorFlow's, of Xception's JFT recipe."""
    learning_rate: Annotated[float, Field(gt=0, le=1e10)] = 0.007
    """Learning rate at the first step after warm-up."""
    scale_to_batch: PositiveInt | None = None
    """Images per step that learning_rate is meant for: it is multiplied by data.batch_size * trainer.accumulate over
    this (sgd), or by the square root of that (adamw, rmsprop). null takes it as it is."""
    momentum: Probability = 0.9
    """Momentum of sgd and rmsprop; adamw's first beta."""
    square_decay: OpenFraction | None = None
    """Decay of the mean of squared gradients: null is 0.999 for adamw (its second beta) and 0.9 for rmsprop."""
    epsilon: PositiveFraction | None = None
    """Added to that mean's root (adamw; null is 1e-8), or to the mean under the root (rmsprop; null is 1e-10)."""
    weight_decay: NonNegativeFloat = 4e-5
    """On convolution and linear weights only: none on depthwise kernels, norms and biases."""
    bias_lr_factor: PositiveFloat = 2.0
    """Learning rate of biases over that of weights."""
    backbone_lr_factor: PositiveFloat = 1.0
    """Learning rate of the backbone over learning_rate."""
    head_lr_factor: PositiveFloat = 1.0
    """Learning rate of everything behind the backbone over learning_rate."""
    layer_decay: PositiveFraction = 1.0
    """Learning rate of each of the backbone's modules over that of the next deeper one; 1 treats them alike."""
    schedule: Literal["poly", "cosine", "step"] = "poly"
    """Learning rate over time: poly is (1 - step / steps) ^ poly_power, cosine falls to 0 along half a wave, step is
    multiplied by step_factor every step_every steps, or step_every_epochs, or step_every_images."""
    poly_power: Annotated[float, Field(ge=0, le=100)] = 0.9
    """Power of the poly schedule; 0 keeps the rate constant."""
    step_factor: PositiveFraction = 0.94
    """step schedule: what the rate is multiplied by. Xception's ImageNet recipe takes 0.94 every 2 epochs."""
    step_every: PositiveInt | None = None
    """step schedule: steps between two changes of the rate."""
    step_every_epochs: Annotated[float, Field(ge=0.001, le=1e6)] | None = None
    """step schedule: passes over the training split between two changes, in place of step_every."""
    step_every_images: PositiveInt | None = None
    """step schedule: images between two changes, in place of step_every. Xception's JFT recipe takes 0.9 every
    3,000,000."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which the rate grows linearly from near zero."""
    ema_decay: OpenFraction | None = None
    """Evaluate and keep an exponential moving average of the weights with this decay, such as 0.9999 (less in the
    first steps); null evaluates the weights themselves."""

    @property
    def adaptive(self) -> tuple[float, float] | None:
        """`square_decay` and `epsilon` with null as the number that it stands for; None for sgd, which has neither."""
        if self.name == "sgd":
            return None
        decay, epsilon = _ADAPTIVE[self.name]
        return self.square_decay or decay, self.epsilon or epsilon

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        periods = [key for key in STEP_PERIODS if getattr(self, key) is not None]
        if self.schedule == "step" and len(periods) != 1:
            raise ValueError(
                "schedule step needs one of step_every, step_every_epochs and step_every_images, which says when the "
                f"rate changes; it has {' and '.join(periods) or 'none'}"
            )
        if self.name == "sgd" and (self.square_decay is not None or self.epsilon is not None):
            raise ValueError("square_decay and epsilon are options of adamw and rmsprop; sgd has none")
        for option, schedule in (("poly_power", "poly"), *((key, "step") for key in ("step_factor", *STEP_PERIODS))):
            if self.schedule != schedule and getattr(self, option) != type(self).model_fields[option].default:
                raise ValueError(f"{option} is an option of schedule {schedule}; this run takes {self.schedule}")
        return self


LoggerName = Literal["tensorboard", "csv", "wandb", "mlflow", "comet"]
LoggerOptions = Annotated[dict[LoggerName, dict[str, Any]], Field(min_length=1, max_length=1)]
_LOGGERS = get_args(LoggerName)


def _one_logger(value: object) -> object:
    """Say what is wrong with an entry once, where both of its forms would complain."""
    options = {value: {}} if isinstance(value, str) else value
    if not isinstance(options, dict) or len(options) != 1 or not all(isinstance(own, dict) for own in options.values()):
        raise ValueError(f"an entry is a name or one {{NAME: {{OPTION: VALUE}}}}, not {shortened(str(value))}")
    (name,) = options
    if name not in _LOGGERS:
        raise ValueError(f"no logger {name!r}. {did_you_mean(str(name), _LOGGERS)}")
    return value


LoggerEntry = Annotated[LoggerName | LoggerOptions, BeforeValidator(_one_logger)]


class TrainerConfig(Section):
    """How long, how often, on what."""

    max_steps: PositiveInt | None = None
    """Optimiser steps in the run. Give this or max_epochs."""
    max_epochs: PositiveInt | None = None
    """Passes over the training split. Give this or max_steps."""
    val_every_steps: PositiveInt | None = None
    """Steps between validations; null validates once per pass over the training split."""
    early_stopping: PositiveInt | None = None
    """Validations without a higher mIoU (of a classifier: top-1, multi-label mAP) after which the run ends; null never
    ends it early."""
    save_every_steps: PositiveInt | None = None
    """Steps between writings of last.ckpt, from which a killed run goes on; null writes it at validations only."""
    keep_every_steps: PositiveInt | None = None
    """Steps between checkpoints that stay, as checkpoints/step_000500.ckpt; null keeps best and last only."""
    log_every_steps: PositiveInt = 10
    """Steps between rows of metrics.csv."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Device type; auto takes a GPU where there is one."""
    devices: Annotated[int, Field(ge=1, le=256)] = 1
    """Devices on each machine, one process each, which share every batch; under torchrun and srun what they started."""
    num_nodes: Annotated[int, Field(ge=1, le=1000)] = 1
    """Machines; more than one needs torchrun or srun."""
    strategy: str = "auto"
    """How processes train together: auto is ddp (every process has the whole network) where there are several; or
    another of Lightning's strategies by its name, such as fsdp."""
    sync_batchnorm: bool | None = None
    """BatchNorm over the batches of all processes; null does so on several GPUs. The CPU has none."""
    precision: Annotated[
        Literal["32", "bf16", "16"],
        BeforeValidator(number_to_text, json_schema_input_type=Literal["32", "bf16", "16", 32, 16]),
    ] = "32"
    """Arithmetic: float32, bfloat16 or float16 with loss scaling; weights stay float32."""
    channels_last: bool = True
    """Keep tensors in channels-last memory order: the same numbers, faster convolutions."""
    recompute: bool = True
    """Recompute what is cheap in the backward pass: less memory and time, same numbers up to rounding. On CPUs only."""
    accumulate: Annotated[int, Field(ge=1, le=2**16)] = 1
    """Batches in an optimiser step, one after the other: the gradient of data.batch_size times as many images in the
    memory of data.batch_size. Steps, intervals and learning rates count optimiser steps."""
    compile: bool = False
    """Compile the network with torch.compile: a slow start, faster steps. On the CPU it needs a C++ compiler."""
    clip_norm: PositiveFloat | None = None
    """Largest gradient norm; null does not clip."""
    progress: bool = True
    """Show progress bars."""
    overlay_images: Annotated[int, Field(ge=0, le=1000)] = 4
    """Segmentation: validation images, always the same, that each validation draws beside truth and prediction in
    overlays/."""
    loggers: ListOf[LoggerEntry] = ()
    """Lightning's loggers that losses and scores go to beside metrics.csv: tensorboard, csv, wandb, mlflow, comet; or
    one with options of its class, [tensorboard, {mlflow: {tracking_uri: "http://host:5000"}}]. All but csv are packages
    to install. They write into the run directory unless an option says otherwise."""

    @model_validator(mode="after")
    def _one_length_of_run(self) -> Self:
        if (self.max_steps is None) == (self.max_epochs is None):
            raise ValueError("give exactly one of max_steps and max_epochs, and null for the other")
        return self
