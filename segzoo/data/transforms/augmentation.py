"""What happens to a crop after it is cut: colour, blur, cut-out, extra transforms; all that knows albumentations."""

import inspect
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import ValidationError

from segzoo.config.schema import DataConfig
from segzoo.data.reading.labels import IGNORED
from segzoo.errors import ConfigError, did_you_mean, first_line

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # or it asks the network for its newest version when imported
import albumentations as A

# They change pixels only; the mask stays.
_OF_PIXELS = (
    "AdditiveNoise", "AdvancedBlur", "AutoContrast", "Blur", "CLAHE", "ChannelDropout", "ChannelShuffle",
    "ChromaticAberration", "ColorJitter", "Defocus", "Downscale", "Emboss", "Equalize", "FancyPCA", "GaussNoise",
    "GaussianBlur", "GlassBlur", "HEStain", "HueSaturationValue", "ISONoise", "Illumination", "ImageCompression",
    "InvertImg", "MedianBlur", "MotionBlur", "MultiplicativeNoise", "PixelDropout", "PlanckianJitter",
    "PlasmaBrightnessContrast", "PlasmaShadow", "Posterize", "RGBShift", "RandomBrightnessContrast", "RandomFog",
    "RandomGamma", "RandomRain", "RandomShadow", "RandomSnow", "RandomSunFlare", "RandomToneCurve",
    "RingingOvershoot", "SaltAndPepper", "Sharpen", "ShotNoise", "Solarize", "Spatter", "ToGray", "ToSepia",
    "UnsharpMask",
)  # fmt: skip
# They move image and mask together and keep the crop's size.
_OF_PLACES = (
    "Affine", "CoarseDropout", "ElasticTransform", "Erasing", "GridDistortion", "GridDropout", "HorizontalFlip",
    "OpticalDistortion", "Perspective", "Rotate", "SafeRotate", "VerticalFlip", "XYMasking",
)  # fmt: skip
_OF_SQUARES = ("D4", "RandomRotate90", "SquareSymmetry", "Transpose")

EXTRA_TRANSFORMS = frozenset((*_OF_PIXELS, *_OF_PLACES, *_OF_SQUARES))
"""Names that `data.augmentation.extra` takes. Left out are those that crop or resize, need other images, files or
boxes, blend class numbers (Morphological), move the picture and not the mask (ZoomBlur) or tear it (ThinPlateSpline),
or are very slow (Superpixels, PiecewiseAffine)."""

# They would let the padding become a class, blend class numbers, or change the crop's size.
_OURS = frozenset({"fill_mask", "mask_interpolation", "mask_drop_value", "keep_size", "crop_border", "fit_output"})
_KEY = "data.augmentation.extra"

Fill = float | tuple[float, ...]


def build_steps(config: DataConfig, fill: Fill, ignore_index: int) -> list[A.BasicTransform]:
    """What `data.augmentation` adds to the geometry, in order: colour, blur, cut-out, extra transforms.

    Where a step removes pixels, channels get `fill`, one value or one for each, and the mask gets `ignore_index`.

    Raises:
        ConfigError: an extra transform is unknown or does not take its arguments; one line each.
    """
    strengths = config.augmentation.strengths
    steps: list[A.BasicTransform] = []
    if strengths.color:
        steps.append(_color(strengths.color, config.channels))
    if strengths.blur:
        steps.append(A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=strengths.blur))
    if strengths.cutout:
        side = (0.05, 0.2)
        steps.append(A.CoarseDropout((1, 4), side, side, fill=fill, fill_mask=ignore_index, p=strengths.cutout))
    return [*steps, *_extra_steps(config, fill, ignore_index)]


def check_extra_transforms(config: DataConfig) -> None:
    """Check `data.augmentation.extra`, without any data.

    Raises:
        ConfigError: a transform is unknown or does not take its arguments; one line each.
    """
    _extra_steps(config, 0.0, ignore_index=IGNORED)


def run_steps(steps: list[A.BasicTransform], image: Any, mask: Any, seed: int) -> tuple[Any, Any]:
    """Apply steps one after the other, each with a stream of random numbers of its own.

    Albumentations' `Compose` would hand one seed to all of them, which ties their draws together.
    """
    target = "mask" if mask.ndim == 2 else "masks"  # one for each class
    for step, step_seed in zip(steps, np.random.SeedSequence(seed).generate_state(len(steps)).tolist(), strict=True):
        step.set_random_seed(step_seed)
        result = step(image=image, **{target: mask})
        image, mask = result["image"], result[target]
    return image, mask


def _color(strength: float, channels: int) -> A.BasicTransform:
    if channels != 3:
        return A.RandomBrightnessContrast(strength, strength, p=1)
    around = (1 - strength, 1 + strength)
    return A.ColorJitter(brightness=around, contrast=around, saturation=around, hue=strength / 4, p=1)


def _extra_steps(config: DataConfig, fill: Fill, ignore_index: int) -> list[A.BasicTransform]:
    problems: list[str] = []
    steps: list[A.BasicTransform] = []
    square = config.crop_size[0] == config.crop_size[1]
    for number, entry in enumerate(config.augmentation.extra):
        found = list(_entry_problems(entry, square))
        if not found:
            step = _build(entry, fill, ignore_index)
            found = [step] if isinstance(step, str) else list(_trial_problems(step, config))
            if not isinstance(step, str):
                steps.append(step)
        problems += [f"{_KEY}[{number}]: {problem}" for problem in found]
    if problems:
        raise ConfigError(problems)
    return steps


def _entry_problems(entry: Mapping[str, Any], square: bool) -> Iterator[str]:
    """What is wrong with the name of a transform and with the names of its arguments."""
    name = entry.get("name")
    if not isinstance(name, str):
        yield "no name. Write it as {name: GaussNoise, p: 0.3}."
        return
    if name not in EXTRA_TRANSFORMS:
        yield f"unknown transform {name!r}. {did_you_mean(name, EXTRA_TRANSFORMS)}"
        return
    if name in _OF_SQUARES and not square:
        yield f"{name} turns height into width; set data.crop_size to a square"
    allowed = set(inspect.signature(getattr(A, name)).parameters) - _OURS
    for argument in sorted(set(entry) - {"name"} - allowed):
        if argument in _OURS:
            yield f"{name}: {argument} cannot be set: the mask keeps its classes, and what has none is ignored"
        else:
            known = ", ".join(sorted(allowed))
            yield f"{name}: unknown argument {argument!r}. {did_you_mean(argument, allowed)} It takes {known}."


def _build(entry: Mapping[str, Any], fill: Fill, ignore_index: int) -> A.BasicTransform | str:
    """The transform, or why it cannot be built."""
    kind = getattr(A, entry["name"])
    parameters = inspect.signature(kind).parameters
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    del arguments["name"]
    if "fill_mask" in parameters:
        arguments = {"fill": fill, **arguments, "fill_mask": ignore_index}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # what albumentations would only mutter about
            return kind(**arguments)
    except (ValueError, TypeError, UserWarning) as error:
        return f"{entry['name']}: {_reason(error)}"


def _reason(error: Exception) -> str:
    """Albumentations wraps pydantic's findings into the text of a ValueError."""
    cause = error.__cause__ or error.__context__
    if not isinstance(cause, ValidationError):
        return first_line(error)
    details = cause.errors(include_url=False)
    return "; ".join(
        f"{detail['loc'][0] if detail['loc'] else 'arguments'}: "
        f"{detail['msg'].removeprefix('Value error, ')}, not {detail['input']!r}"
        for detail in details
    )


def _trial_problems(step: A.BasicTransform, config: DataConfig) -> Iterator[str]:
    """Run a transform once on an empty crop: some refuse other channels or types only then."""
    gray, dtype = (128, np.uint8) if config.is_rgb8 else (0.5, np.float32)
    image, mask = np.full((*config.crop_size, config.channels), gray, dtype), np.zeros(config.crop_size, np.uint8)
    step.set_random_seed(0)
    try:
        result = step(image=image, mask=mask, force_apply=True)
    except Exception as error:  # whatever a transform raises on such an image
        kind = "8-bit RGB" if image.dtype == np.uint8 else f"floating-point ones of {config.channels} channels"
        yield f"{type(step).__name__}: not for images of this data set, {kind} ({first_line(error)})"
        return
    if result["image"].shape != image.shape or result["image"].dtype != image.dtype:
        yield f"{type(step).__name__}: changes the crop from {image.shape} to {result['image'].shape}"
