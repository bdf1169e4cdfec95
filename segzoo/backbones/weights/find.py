"""From what a user calls weights, a tag or a path, to the weights and what they expect."""

from dataclasses import replace
from os import PathLike
from pathlib import Path

from segzoo.backbones.weights.hub import fetch, fetch_model, is_hub_name
from segzoo.backbones.weights.published import find_published, neither_tag_nor_file
from segzoo.backbones.weights.recognise import read_weights
from segzoo.backbones.weights.source import Recipe, SourceWeights


def find_weights(backbone: str | None, weights: str | PathLike[str]) -> SourceWeights:
    """Read weights, downloading published ones where they are not cached.

    A tag wins over a file of its name: write `./imagenet` for the file.

    Args:
        backbone: the variant the weights are for; tags belong to one.
        weights: a tag, the path of a file or folder, or a saved model on the hub, as `owner/name`.

    Raises:
        ConfigError: no such tag or file, or no download.
        CheckpointError: the file is refused.
    """
    entry = find_published(backbone, str(weights))
    if entry is not None:
        read = read_weights(fetch(entry))
        return replace(read, source=f"{entry.tag} of {entry.backbone}", recipe=entry.recipe)
    if is_hub_name(str(weights)):
        return read_weights(fetch_model(str(weights)))
    if not Path(weights).exists():
        raise neither_tag_nor_file(backbone, str(weights))
    return read_weights(weights)


def recipe_of(backbone: str | None, weights: str | PathLike[str]) -> Recipe:
    """What weights expect around them: mean, std, eps and paddings. A tag needs no download for it.

    Raises:
        ConfigError: no such tag or file.
        CheckpointError: the file is refused.
    """
    entry = find_published(backbone, str(weights))
    return entry.recipe if entry is not None else find_weights(backbone, weights).recipe
