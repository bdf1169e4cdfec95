"""The `data` section: where images and masks come from, and how they become network input."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from segzoo.config.sections import (
    Bands,
    BatchSize,
    Degrees,
    FileName,
    FilePath,
    Fraction,
    ListOf,
    Names,
    OpenFraction,
    PartsSection,
    PerChannel,
    PositiveInt,
    PositivePerChannel,
    Range,
    RawValues,
    Rgb,
    Section,
    Seed,
    Size,
    ValueRange,
    Workers,
)

MAX_FACTORS = 10_000
"""Factors that images are scaled by, from scale_range in steps of scale_step."""


class Preprocessing(Section):
    """How pixels become network input: `(pixel / 255 - mean) / std` for each channel, RGB order.

    Pixels that are no 8-bit RGB come in units of their full range already (see data.value_range).
    """

    mean: PerChannel = (0.5, 0.5, 0.5)
    """Mean of each channel, in units of the full range (0 to 1). 0.5 puts images in [-1, 1], as Xception expects."""
    std: PositivePerChannel = (0.5, 0.5, 0.5)
    """Standard deviation of each channel, in units of the full range."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} channels and std {len(self.std)}; give both the same number")
        return self


def neutral_preprocessing(data: dict[str, Any]) -> Preprocessing:
    """The defaults of `Preprocessing`, once for each channel of the images."""
    rgb = Preprocessing()
    return Preprocessing(mean=rgb.mean[:1] * data["channels"], std=rgb.std[:1] * data["channels"])


class SharedDataConfig(PartsSection):
    """What the `data` sections of every task have in common; in this order, which their own sections keep."""

    place = "data"

    name: str
    root: FilePath | None = None
    train_split: FilePath = "train"
    """Split to train on."""
    val_split: FilePath = "val"
    """Split to validate on."""
    classes: Names | None = None
    channels: Bands = 3
    """Channels of an image. Other than 3: .npy arrays (H, W, C), TIFFs, gray or RGBA pictures, as they are stored."""
    value_range: ValueRange | None = None
    """Stored pixel values that mean 0 and 1; values beyond are cut off. null: the full range of the files' type, 255
    or 65535; pixels of floating-point files need it stated."""
    preprocessing: Preprocessing = Field(default_factory=neutral_preprocessing)
    """How pixels become network input."""
    batch_size: BatchSize = 16
    """Images in one batch, over all devices; a step takes trainer.accumulate of them."""
    num_workers: Workers | None = None
    """Processes that read and augment; null takes one where the processor itself trains, none for images that are made
    on the spot, and with a GPU one per core, at most 8, shared among the devices."""

    @property
    def chosen(self) -> tuple[str, ...]:
        """The data set."""
        return (self.name,)

    @property
    def is_rgb8(self) -> bool:
        """Whether images are 8-bit RGB."""
        return self.channels == 3 and self.value_range is None

    @model_validator(mode="after")
    def _pixels_fit(self) -> Self:
        if len(self.preprocessing.mean) != self.channels:
            raise ValueError(
                f"preprocessing: mean and std have {len(self.preprocessing.mean)} numbers, but data.channels is "
                f"{self.channels}; give one for each channel"
            )
        if self.value_range is not None and self.value_range[0] >= self.value_range[1]:
            raise ValueError(f"value_range: {list(self.value_range)} is empty; write the smaller value first")
        return self


class FolderConfig(Section):
    """Any folder of images and masks that share their names."""

    images: FileName = "images"
    """Name of the sub-folder with the images."""
    masks: FileName = "masks"
    """Name of the sub-folder with the masks."""
    mask_suffix: FileName = ""
    """What the names of masks have after the part they share with their images, such as _mask where a_mask.png belongs
    to a.jpg."""
    mask_prefix: FileName = ""
    """What the names of masks have before that part, such as mask_ where mask_7.png belongs to 7.jpg."""
    image_suffix: FileName = ""
    """What the names of images have after that part, such as _sat where 7_sat.jpg has the mask 7_mask.png."""
    image_prefix: FileName = ""
    """What the names of images have before that part, such as image_ where image_7.png has the mask mask_7.png."""
    lists: FileName = ""
    """Name of the sub-folder with the lists of the splits, such as ImageSets/Segmentation; empty: none, they lie in the
    folder itself."""
    mask_values: dict[str, RawValues] | None = None
    """Class name to the number, or list of numbers, that stands for it in the masks, such as {background: 0,
    cell: 255}; null: masks hold 0, 1, 2, ... 255 is ignored where no class has it, and so is ignore_value; any other
    number is refused."""
    colors: dict[str, Rgb] | None = None
    """Class name to its [red, green, blue] in the masks, where those are coloured pictures; null: they hold numbers."""
    multi_label: bool = False
    """A pixel may have several classes, each decided on its own: a folder of masks for each class, masks/<class>/a.png,
    of 0 where it is absent and 1 or 255 where it is present. Class names are the folders', or those of data.classes."""
    sparse_masks: bool = False
    """multi_label only: an image without a file in a class's folder has none of it; false takes it for a fault."""
    ignore_value: RawValues | None = None
    """The number, or list of numbers, in the masks whose pixels do not count, such as -1; null: only 255, where no
    class has it. With multi_label pixels do not count for the class in whose mask they have it; null: all count."""
    mask_offset: Annotated[int, Field(ge=0, lt=2**16)] = 0
    """Subtracted from the numbers in the masks; those below it are ignored. 1 suits masks whose 0 is unlabelled."""
    val_fraction: OpenFraction = 0.2
    """Share of the images held out as val, where neither folders nor train.txt and val.txt split them."""
    split_seed: Seed = 0
    """Another number holds other images out."""

    @field_validator("images", "masks", "lists")
    @classmethod
    def _below_the_root(cls, name: str) -> str:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(
                f"'{name}' leads out of data.root; name a folder below it, and give a data.root above both"
            )
        return name

    @model_validator(mode="after")
    def _one_kind_of_mask(self) -> Self:
        set_keys = [key for key in ("mask_values", "colors", "mask_offset") if getattr(self, key)]
        if len(set_keys) > 1:
            raise ValueError(f"{' and '.join(set_keys)} exclude each other; keep one")
        if self.multi_label and set_keys:
            raise ValueError(f"{set_keys[0]}: with multi_label each class has masks of its own, of 0 and 1 or 255")
        if self.sparse_masks and not self.multi_label:
            raise ValueError("sparse_masks is of multi_label; set multi_label: true, or leave it out")
        self._check_ignored(self.ignore_value or ())
        return self

    def _check_ignored(self, ignored: Collection[int]) -> None:
        if ignored and self.colors is not None:
            raise ValueError(
                "ignore_value: with colors masks hold no numbers; name the colour as a class, and that in "
                "data.ignore_classes"
            )
        for name, values in (self.mask_values or {}).items():
            if both := sorted({*values} & {*ignored}):
                raise ValueError(f"ignore_value: {both[0]} is class {name} in mask_values; keep one of the two")
        if self.multi_label and (wrong := [value for value in ignored if value in (0, 1)]):
            raise ValueError(f"ignore_value: {wrong[0]} says that a class is absent or present; take another")


class Ade20kConfig(Section):
    """ADE20K's scene parsing challenge."""

    other: bool = False
    """Score "other", the masks' 0, as class 0 before the 150 classes, as networks of DeepLab's authors do: its pixels
    are ignored all the same, and where a network says so it is wrong."""


class SyntheticConfig(Section):
    """The built-in synthetic scenes: no files needed."""

    train_images: PositiveInt = 400
    """Images in the training split."""
    val_images: PositiveInt = 50
    """Images in the validation split, drawn from other seeds than training."""
    size: Size = (96, 128)
    """Height and width in pixels; one number is a square."""


class Strengths(NamedTuple):
    """How strong each part of an augmentation is; the fields are explained in `AugmentationConfig`."""

    color: float
    blur: float
    rotation: float
    cutout: float
    rare_class_crops: float
    vertical_flip: float


_RECIPES = {
    "deeplab": Strengths(color=0.0, blur=0.0, rotation=0.0, cutout=0.0, rare_class_crops=0.0, vertical_flip=0.0),
    "strong": Strengths(color=0.4, blur=0.2, rotation=10.0, cutout=0.3, rare_class_crops=0.5, vertical_flip=0.0),
}


class AugmentationConfig(Section):
    """What training does to a crop beside scaling and flipping it. null takes the recipe's own value."""

    recipe: Literal["deeplab", "strong"] = "deeplab"
    """deeplab: scale, crop and flip only, as DeepLabV3+ was trained. strong: color 0.4, blur 0.2, rotation 10,
    cutout 0.3, rare_class_crops 0.5 as well, for small data sets and long runs."""
    color: Fraction | None = None
    """Brightness, contrast and saturation change by up to this share, hue by a quarter of it (of the colour circle).
    Images that are not RGB change in brightness and contrast only."""
    blur: Fraction | None = None
    """Probability of a Gaussian blur whose standard deviation is 0.1 to 2 pixels."""
    rotation: Degrees | None = None
    """Crops turn by up to so many degrees either way; what comes into view from outside is gray and ignored."""
    cutout: Fraction | None = None
    """Probability of painting 1 to 4 rectangles gray, each side 5 to 20 % of the crop's; their pixels are ignored."""
    rare_class_crops: Fraction | None = None
    """Probability of placing the crop where it shows a class drawn from those in the image, rare ones more often."""
    vertical_flip: Fraction | None = None
    """Probability of an upside-down flip, for images without an up, such as those of a microscope."""
    extra: ListOf[dict[str, Any]] = ()
    """More albumentations transforms, applied in this order at the end: a list of {name: ..., argument: value}, such as
    [{name: GaussNoise, std_range: [0.1, 0.2], p: 0.3}]. Checked before data is read."""

    @property
    def strengths(self) -> Strengths:
        """The recipe's values with those set here in their place."""
        own = {name: getattr(self, name) for name in Strengths._fields if getattr(self, name) is not None}
        return _RECIPES[self.recipe]._replace(**own)


class DataConfig(SharedDataConfig):
    """Where images and masks come from, and what training does to them."""

    kind = "data set"

    name: str
    """Data set: voc, cityscapes, ade20k, camvid, folder, synthetic, or one you registered."""
    root: FilePath | None = None
    """Folder of the data set. voc: VOCdevkit or the VOC2012 inside it; cityscapes: the one that holds leftImg8bit and
    gtFine; ade20k: ADEChallengeData2016; camvid: SegNet's, or the one with 701_StillsRaw_full. synthetic needs none."""
    classes: Names | None = None
    """folder only: class names in the order of the mask values; without it classes.txt, else class_0, class_1, ..."""
    ignore_classes: Names | None = None
    """Classes whose pixels count as ignored; the others keep their order."""
    merge_classes: dict[str, Names] | None = None
    """New class to the classes it replaces, such as {vehicle: [car, bus]}; it stands where the first of them stood."""
    ade20k: Ade20kConfig = Ade20kConfig()
    """ade20k only: which classes are scored."""
    folder: FolderConfig = FolderConfig()
    """folder only: names of the sub-folders, what the masks hold, how images are split."""
    synthetic: SyntheticConfig = SyntheticConfig()
    """synthetic only: how many images, how large."""
    crop_size: Size = (513, 513)
    """Height and width of training crops in pixels; one number is a square."""
    scale_range: Range = (0.5, 2.0)
    """Training images are scaled by a random factor from this range."""
    scale_step: Annotated[float, Field(ge=0, le=100)] = 0.25
    """Distance between the factors of scale_range; 0 draws any factor in it, in steps of 1/32."""
    flip_probability: Fraction = 0.5
    """Probability of a left-right flip in training."""
    augmentation: AugmentationConfig = AugmentationConfig()
    """What training does to a crop beside scaling and flipping it."""
    reduced_decoding: bool = False
    """Decode JPEGs at 1/2, 1/4 or 1/8 size where the scale factor is at most that: quicker for large photos, and
    smoother than sampling the full picture."""
    cache: FilePath | None = None
    """Folder for decoded images and masks: written when a sample is first read, then read in place of the files.
    Takes height x width x (channels + 1) bytes a sample; null reads the files each time."""

    def unread_options(self) -> Iterator[str]:
        """The shared section's lines, with the keys for classes that every data set reads."""
        advice = " To change classes: data.ignore_classes, data.merge_classes." if self.classes else ""
        yield from (f"{line}{advice}" for line in super().unread_options())

    @model_validator(mode="after")
    def _classes_named_once(self) -> Self:
        for key in ("mask_values", "colors"):
            if self.classes is not None and getattr(self.folder, key) is not None:
                raise ValueError(f"classes: folder.{key} names them already; keep one")
        return self

    @model_validator(mode="after")
    def _one_way_to_decode(self) -> Self:
        if self.cache and self.reduced_decoding:
            raise ValueError("reduced_decoding: a cache keeps full-size images; set data.cache=null or this to false")
        return self

    @model_validator(mode="after")
    def _ordered_range(self) -> Self:
        low, high = self.scale_range
        if low > high:
            raise ValueError(f"scale_range: {low} is above {high}; write the smaller factor first")
        if 0 < self.scale_step < (high - low) / MAX_FACTORS:
            raise ValueError(f"scale_step: {self.scale_step} is too fine for scale_range; 0 draws any factor in it")
        return self
