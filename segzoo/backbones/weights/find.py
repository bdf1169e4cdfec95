"""From what a user calls weights, a tag or a path, to the weights and what they expect."""

from dataclasses import replace
from os import PathLike

from segzoo.backbones.strides import STEM_CHANNELS, scale_channels
from segzoo.backbones.weights.hub import fetch, fetch_model, is_hub_name
from segzoo.backbones.weights.models import fetch_backbone, find_model
from segzoo.backbones.weights.published import find_published, neither_tag_nor_file
from segzoo.backbones.weights.recognise import find_weights_file, read_weights
from segzoo.backbones.weights.source import Recipe, SourceWeights
from segzoo.errors import ConfigError


def find_weights(backbone: str | None, weights: str | PathLike[str]) -> SourceWeights:
    """Read weights, downloading published ones where they are not cached.

    A tag wins over a file of its name: write `./imagenet` for the file.

    Args:
        backbone: the variant the weights are for; tags belong to one.
        weights: a tag, the path of a file or folder, a published model's name, as `deeplab/xception65-coco`, or a saved
            model on the hub, as `owner/name`.

    Raises:
        ConfigError: no such tag or file, or no download.
        CheckpointError: the file is refused.
    """
    entry = find_published(backbone, str(weights))
    if entry is not None:
        read = read_weights(fetch(entry))
        return replace(read, source=f"{entry.tag} of {entry.backbone}", recipe=entry.recipe)
    model = find_model(str(weights))
    if model is not None:
        return replace(read_weights(fetch_backbone(model)), source=model.name)
    if is_hub_name(str(weights)):
        return read_weights(fetch_model(str(weights)))
    file = find_weights_file(weights)
    if not file.exists():
        raise neither_tag_nor_file(backbone, str(weights))
    return read_weights(file)


def recipe_of(backbone: str | None, weights: str | PathLike[str], width: float | None = None) -> Recipe:
    """What weights expect around them: mean, std, eps and paddings. A tag needs no download for it.

    Args:
        backbone: as for `find_weights`.
        weights: as there.
        width: of the backbone that they are for; None is any.

    Raises:
        ConfigError: no such tag or file, or weights of another width.
        CheckpointError: the file is refused.
    """
    entry = find_published(backbone, str(weights))
    if entry is not None:
        return entry.recipe
    found = find_weights(backbone, weights)
    if width is not None:
        _check_width(found, width)
    return found.recipe


def _check_width(found: SourceWeights, width: float) -> None:
    """Before a data set is read, and in place of the shapes of all tensors."""
    if found.stem is None:  # of a network of another family, whose width means what it likes
        return
    channels = found.stem.shape[0]
    theirs = channels / STEM_CHANNELS[0] if found.width is None else found.width
    if theirs == width or (found.width is None and channels == scale_channels(STEM_CHANNELS[0], width)):
        return
    raise ConfigError(
        f"model.backbone.width: {width:g}, but {found.source} holds a backbone of width {theirs:g}. Write "
        f"model.backbone.width={theirs:g}, or take other weights."
    )
