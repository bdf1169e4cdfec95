"""The `data.augmentation` section: what training does to a crop beside scaling and flipping it."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from segzoo.config.fields import Fraction, Section, list_to_tuple


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

ExtraTransforms = Annotated[tuple[dict[str, Any], ...], BeforeValidator(list_to_tuple)]


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
    rotation: Annotated[float, Field(ge=0, le=180)] | None = None
    """Crops turn by up to so many degrees either way; what comes into view from outside is gray and ignored."""
    cutout: Fraction | None = None
    """Probability of painting 1 to 4 rectangles gray, each side 5 to 20 % of the crop's; their pixels are ignored."""
    rare_class_crops: Fraction | None = None
    """Probability of placing the crop where it shows a class drawn from those in the image, rare ones more often."""
    vertical_flip: Fraction | None = None
    """Probability of an upside-down flip, for images without an up, such as those of a microscope."""
    extra: ExtraTransforms = ()
    """More albumentations transforms, applied in this order at the end: a list of {name: ..., argument: value}, such as
    [{name: GaussNoise, std_range: [0.1, 0.2], p: 0.3}]. Checked before data is read."""

    @property
    def strengths(self) -> Strengths:
        """The recipe's values with those set here in their place."""
        own = {name: getattr(self, name) for name in Strengths._fields if getattr(self, name) is not None}
        return _RECIPES[self.recipe]._replace(**own)
