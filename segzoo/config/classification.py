"""Image classification (`task: classification`): the sections of its own, and such a run."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from segzoo.config.data import SharedDataConfig
from segzoo.config.evaluation import MetricNames
from segzoo.config.model import BackboneConfig, NormSettings
from segzoo.config.schema import RunConfig, SharedRunConfig
from segzoo.config.sections import (
    BatchSize,
    ClassWeights,
    Degrees,
    FilePath,
    Fraction,
    ListOf,
    Names,
    OpenFraction,
    PositiveFraction,
    Probability,
    Range,
    Section,
    Seed,
    Size,
)

Shear = Annotated[float, Field(ge=0, le=80)]
Units = Annotated[int, Field(ge=1, le=2**16)]
Magnitude = Annotated[int, Field(ge=0, le=30)]


class CsvConfig(Section):
    """A table of images and their classes."""

    file_column: str = "file"
    """Heading of the column with the images' paths, relative to data.root or absolute."""
    label_column: str = "label"
    """Heading of the column with the classes' names."""
    split_column: str = "split"
    """Heading of the column that says train or val, where labels.csv has all splits; it may be absent."""
    multi_label: bool = False
    """An image may have several classes or none, each decided on its own; single-label otherwise."""
    separator: Annotated[str, Field(min_length=1)] = ";"
    """multi_label only: what stands between the classes of an image, as in cat;dog."""


class ImageNetConfig(Section):
    """ImageNet's own layout."""

    val_map: FilePath | None = None
    """File below data.root with lines as `ILSVRC2012_val_00000001.JPEG n01751748`, or Kaggle's LOC_val_solution.csv,
    where the validation images lie in one folder; null: each class has a folder, as in training."""


class ClassificationAugmentation(Section):
    """What training does to an image beside cropping it; all at 0 or null do nothing."""

    horizontal_flip: Fraction = 0.5
    """Probability of a left-right flip."""
    vertical_flip: Fraction = 0.0
    """Probability of an upside-down flip."""
    rotation: Degrees = 0.0
    """Images turn by up to so many degrees either way; what comes into view from outside has the mean colour."""
    shear: Shear = 0.0
    """Images are sheared along x and along y by up to so many degrees either way."""
    zoom: Probability = 0.0
    """Images grow or shrink by up to this share."""
    color: Fraction = 0.0
    """Brightness, contrast and saturation change by up to this share, hue by a quarter of it (of the colour circle)."""
    rand_augment: Magnitude | None = None
    """RandAugment's magnitude M, 9 in its paper; null leaves it out."""
    rand_augment_operations: Annotated[int, Field(ge=1, le=100)] = 2
    """rand_augment only: operations on an image, the paper's N."""
    mixup: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Mixup's alpha, 0.2 in its paper for ImageNet: images are blended in pairs, and so are their classes; 0: none."""


class ClassificationDataConfig(SharedDataConfig):
    """Where images and their classes come from, and what training does to them."""

    kind = "data set for classification"

    name: str
    """Data set: image_folder, csv, cifar10, imagenet, or one you registered."""
    root: FilePath | None = None
    """Folder of the data set. image_folder: holds a folder for each class, or train and val with these; csv: train.csv
    and val.csv, or labels.csv; cifar10: cifar-10-binary.tar.gz or cifar-10-batches-bin; imagenet: train and val."""
    val_split: FilePath = "val"
    """Split to validate on; val of cifar10 is its test batch."""
    classes: Names | None = None
    """image_folder, csv: class names in the order of the network's outputs; without it classes.txt, else those of the
    training split in the order of the alphabet."""
    batch_size: BatchSize = 32
    """Images in one batch, over all devices; a step takes trainer.accumulate of them."""
    val_fraction: OpenFraction = 0.2
    """image_folder, csv: share of each class's images held out as val, where nothing else splits them."""
    split_seed: Seed = 0
    """Another number holds other images out."""
    csv: CsvConfig = CsvConfig()
    """csv only: headings, several labels."""
    imagenet: ImageNetConfig = ImageNetConfig()
    """imagenet only: the classes of validation images in one folder."""
    image_size: Size = (299, 299)
    """Height and width of what the network sees in pixels; one number is a square."""
    crop_area: Range = (0.08, 1.0)
    """Training crops cover a random share of the image from this range, scaled to image_size."""
    crop_ratio: Range = (0.75, 1.3333333333333333)
    """Width over height of training crops, before they are scaled."""
    center_crop: PositiveFraction = 0.875
    """Evaluation and prediction see the central window of image_size's proportions, with this share of the sides of the
    largest one."""
    augmentation: ClassificationAugmentation = ClassificationAugmentation()
    """What training does to an image beside cropping it."""

    @model_validator(mode="after")
    def _augmentation_fits(self) -> Self:
        augmentation = self.augmentation
        if not self.is_rgb8 and (augmentation.color or augmentation.rand_augment is not None):
            raise ValueError("augmentation: color and rand_augment are for 8-bit RGB; leave them out")
        return self

    @model_validator(mode="after")
    def _ordered_ranges(self) -> Self:
        for key, (low, high) in (("crop_area", self.crop_area), ("crop_ratio", self.crop_ratio)):
            if low > high:
                raise ValueError(f"{key}: {low} is above {high}; write the smaller number first")
        if self.crop_area[1] > 1:
            raise ValueError(f"crop_area: {self.crop_area[1]} is more than the whole image, which is 1")
        return self


class ClassifierModelConfig(NormSettings):
    """The network: a backbone, global average pooling, class scores."""

    weights: FilePath | None = None
    """Checkpoint or run directory whose whole classifier this run starts from, instead of backbone.weights; with other
    classes, the layer that gives class scores starts anew. It has to be of the same backbone."""
    dropout: Probability = 0.5
    """Probability of dropping a number before the class scores, in training: 0.5 in Xception's ImageNet recipe, 0 in
    its JFT recipe."""
    fc_width: Units | Annotated[ListOf[Units], Field(max_length=16)] | None = None
    """Widths of the fully connected layers with ReLU between pooling and class scores: [100] is one of 100. A number is
    the width of two, 4096 in Xception's JFT runs; null has none."""
    frozen_modules: Annotated[int, Field(ge=0, le=1000)] | Literal["all"] = 0
    """So many of the backbone's first modules stay as loaded, BatchNorm statistics included; the stem is the first,
    Chollet's network has 14. all trains what is behind the backbone only."""
    backbone: BackboneConfig = BackboneConfig()
    """The feature extractor. Of a checkpoint it takes the backbone alone, of a segmenter as well as of a classifier."""


class ClassificationLossConfig(Section):
    """Cross-entropy; where an image may have several classes (multi-label), binary cross-entropy of each class."""

    label_smoothing: Probability = 0.0
    """Share of the target that is spread over all classes; multi-label: over yes and no."""
    class_weights: ClassWeights | None = None
    """Weight of each class, in their order; null weighs all images alike."""


class ClassifierEvaluationConfig(Section):
    """How validation and `segzoo evaluate` measure."""

    metrics: MetricNames = ()
    """Metrics that a validation measures too, into metrics.csv and logs, such as [mean_accuracy]; those of your own,
    `segzoo.register_metric`, among them. `segzoo evaluate` has all."""
    batch_size: BatchSize = 16
    """Images that run together. Does not change any number."""
    split: FilePath | None = None
    """Split that `segzoo evaluate` measures; null takes data.val_split."""
    class_weights: ClassWeights | None = None
    """Weight of each class in MAP@100, in their order: how much it matters. null takes how many of the split's images
    have it. Changes no other number."""

    def with_less_memory(self) -> str:
        """The key of this section, with a value, that makes an evaluation take less memory."""
        return f"batch_size={max(1, self.batch_size // 2)}"


class ClassificationRunConfig(SharedRunConfig):
    """One run of a classifier."""

    has_colors: ClassVar[bool] = False
    weights_settings: ClassVar[tuple[str, ...]] = (*SharedRunConfig.weights_settings, "stem_padding")

    task: Literal["classification"]
    """What is learnt: a class for each image, or several."""
    data: ClassificationDataConfig
    """Where images and classes come from, and what training does to them."""
    model: ClassifierModelConfig = ClassifierModelConfig()
    """The network."""
    loss: ClassificationLossConfig = ClassificationLossConfig()
    """What training minimises."""
    evaluation: ClassifierEvaluationConfig = ClassifierEvaluationConfig()
    """How results are measured."""


AnyRunConfig = RunConfig | ClassificationRunConfig
"""A run of either task."""
