"""The `loss`, `optimizer` and `trainer` sections: what is minimised, how weights move, how long and on what."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from segzoo.config.fields import (
    ClassWeights,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
    number_to_text,
)


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
    precision: Annotated[Literal["32", "bf16", "16"], BeforeValidator(number_to_text)] = "32"
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
