"""The `data` section: where images and masks come from, and how they become network input."""

from pydantic import model_validator

from segzoo.config.fields import (
    Fraction,
    Names,
    NonNegativeFloat,
    NonNegativeInt,
    PerChannel,
    PositiveInt,
    PositivePerChannel,
    Range,
    Section,
    Size,
)


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
