"""Published weights: where they lie, what they reach, and what they expect.

Sources of this table: `timm/models/xception.py` and `xception_aligned.py` of timm 1.0.31 (repositories, mean, std, eps,
licence); SMP 0.6.0 (`encoders/xception.py`: repository and revision of Chollet's weights); Chollet,
arXiv:1610.02357v3, Table 1; timm's results on ImageNet at 299 pixels. None of them states a sha256, so all are None:
a download is then held against the checksum that the hub itself states.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from segzoo.backbones.weights.source import KERAS_RECIPE, TIMM_RECIPES, Recipe
from segzoo.errors import ConfigError, did_you_mean

IMAGENET = "imagenet"
"""The tag that every backbone with published weights has: the first of its entries."""

KERAS_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/"
    "xception/xception_weights_tf_dim_ordering_tf_kernels.h5"
)
"""Chollet's own file: a path to it works too, with or without its top."""


@dataclass(frozen=True)
class WeightsEntry:
    """One set of published weights.

    Args:
        backbone: the variant.
        tag: its name among the variant's weights, timm's where timm has one.
        repository: on the Hugging Face hub.
        revision: a commit where we know one, else a branch.
        sha256: of the file; None where no trusted source states it.
        top1: single-crop accuracy on ImageNet at 299 pixels, percent.
        recipe: what the weights expect around them.
        filename: in the repository.
        licence: of the weights.
    """

    backbone: str
    tag: str
    repository: str
    revision: str
    sha256: str | None
    top1: float
    recipe: Recipe
    filename: str = "model.safetensors"
    licence: str = "Apache-2.0"

    @property
    def source(self) -> str:
        """The page to look at."""
        return f"https://huggingface.co/{self.repository}"


def _timm(backbone: str, tag: str, top1: float) -> WeightsEntry:
    """An entry of timm's; it names its repositories and no revisions or checksums."""
    return WeightsEntry(backbone, tag, f"timm/{backbone}.{tag}", "main", None, top1, TIMM_RECIPES[backbone])


# Chollet's weights as Cadene ported them from Keras' file. Two entries: run as Keras does, and as timm does, with the
# licence that each of the two states.
_CHOLLET = ("smp-hub/xception.imagenet", "01cfaf27c11353b1f0c578e7e26d2c000ea91049", None)

PUBLISHED = (
    WeightsEntry("xception", "keras_in1k", *_CHOLLET, 79.0, KERAS_RECIPE, licence="MIT"),
    WeightsEntry("xception", "tf_in1k", *_CHOLLET, 79.06, TIMM_RECIPES["xception"]),
    _timm("xception41", "tf_in1k", 78.55),
    _timm("xception65", "tf_in1k", 79.56),
    _timm("xception65", "ra3_in1k", 83.19),
    _timm("xception71", "tf_in1k", 79.92),
    _timm("xception41p", "ra3_in1k", 81.98),
    _timm("xception65p", "ra3_in1k", 83.16),
)


def published_for(backbone: str | None) -> list[WeightsEntry]:
    """The entries of a variant; the first is its `imagenet`."""
    return [entry for entry in PUBLISHED if entry.backbone == backbone]


def find_published(backbone: str | None, tag: str) -> WeightsEntry | None:
    """The entry of a tag, or None."""
    entries = published_for(backbone)
    return entries[0] if entries and tag == IMAGENET else next((e for e in entries if e.tag == tag), None)


def neither_tag_nor_file(backbone: str | None, weights: str) -> ConfigError:
    """What to say of a name that is no tag, and no path."""
    tags = [entry.tag for entry in published_for(backbone)]
    if not tags:
        return ConfigError(f"{weights}: no such weights file, and no weights are published for this backbone")
    hint = did_you_mean(weights, [IMAGENET, *tags])
    return ConfigError(f"{weights}: no such weights file, nor a published tag of {backbone}. {hint}")


def weights_table(entries: Sequence[WeightsEntry] = PUBLISHED) -> Table:
    """One line for each entry."""
    table = Table(
        title="published weights; top-1 on ImageNet at 299 pixels, percent; sources are on huggingface.co",
        title_justify="left",
    )
    for heading in ("backbone", "weights", "top-1", "source", "licence", "sha256"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "top-1" else "left")
    for entry in entries:
        is_default = entry is published_for(entry.backbone)[0]
        tag = f"{IMAGENET}, {entry.tag}" if is_default else entry.tag
        sha256 = entry.sha256 or "not known"
        table.add_row(entry.backbone, tag, f"{entry.top1:.2f}", entry.repository, entry.licence, sha256)
    return table
