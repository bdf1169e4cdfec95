"""The networks that DeepLab's authors published, by names of ours: a table, and their archives from where they lie.

Source of the table: `model_zoo.md` of the authors' `research/deeplab`. The files themselves could not be reached where
it was written: what arrives is held against the checksums that a checkpoint has for each of its variables.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from segzoo.backbones.weights.tensorflow import read_tensorflow
from segzoo.errors import CheckpointError, ConfigError, DataError, UnknownNameError, did_you_mean, first_line
from segzoo.fetching.download import Limits, download

_OWNER = "deeplab"
_HOME = "http://download.tensorflow.org/models"
_MIRROR = "SEGZOO_MODELS_URL"
"""Environment variable with the address of a folder that has the same archives."""
_ALLOWED = 1_100_000  # bytes for each megabyte that the table states, which are rounded or of 2^20 bytes


@dataclass(frozen=True)
class PublishedModel:
    """One archive.

    Args:
        name: what it is called here.
        network: the backbone, and what is behind it.
        data: what it was trained on.
        miou: as its authors state it, with how they measured it; empty for a backbone.
        megabytes: of the archive.
        archive: the file's name.
        is_segmenter: or a backbone alone.
        licence: of the repository that lists it.
    """

    name: str
    network: str
    data: str
    miou: str
    megabytes: int
    archive: str
    is_segmenter: bool = True
    licence: str = "Apache-2.0"

    @property
    def url(self) -> str:
        """The address that it is fetched from."""
        return f"{os.environ.get(_MIRROR, _HOME).rstrip('/')}/{self.archive}"

    @property
    def lines(self) -> str:
        """What to show of it: its name, and indented what it is."""
        rest = f"{self.network}; {self.data}; {self.megabytes} MB; {self.licence}"
        return f"{self.name}\n    {rest}\n    {f'mIoU {self.miou}' if self.is_segmenter else 'a backbone'}"

    @property
    def file_name(self) -> str:
        """What is made of it is called so in the cache."""
        return self.name.rpartition("/")[2]

    @property
    def place(self) -> Path:
        """Where its archive lies once it was fetched, by this program or by hand."""
        return cache_folder() / self.archive


_SIX = "0.5 to 1.75, mirrored"
PUBLISHED_MODELS = (
    PublishedModel(
        f"{_OWNER}/xception65-voc",
        "xception65, aspp",
        "COCO, VOC 2012 trainaug",
        f"val 82.20 (stride 16); 83.58 (stride 8, {_SIX})",
        439,
        "deeplabv3_pascal_train_aug_2018_01_04.tar.gz",
    ),
    PublishedModel(
        f"{_OWNER}/xception65-voc-trainval",
        "xception65, aspp",
        "COCO, VOC 2012 trainval",
        f"test 87.80 (stride 8, {_SIX})",
        439,
        "deeplabv3_pascal_trainval_2018_01_04.tar.gz",
    ),
    PublishedModel(
        f"{_OWNER}/xception65-cityscapes",
        "xception65, aspp",
        "Cityscapes train",
        "val 78.79 (stride 16); 80.42 (stride 8, 0.75 to 1.25, mirrored)",
        439,
        "deeplabv3_cityscapes_train_2018_02_06.tar.gz",
    ),
    PublishedModel(
        f"{_OWNER}/xception71-cityscapes",
        "xception71, dpc",
        "Cityscapes train",
        "val 80.31 (stride 16)",
        445,
        "deeplab_cityscapes_xception71_trainfine_2018_09_08.tar.gz",
    ),
    PublishedModel(
        f"{_OWNER}/xception71-cityscapes-trainval",
        "xception71, dpc",
        "Cityscapes train and val",
        "test 82.66 (stride 8, 0.75 to 2, mirrored)",
        446,
        "deeplab_cityscapes_xception71_trainvalfine_2018_09_08.tar.gz",
    ),
    PublishedModel(
        f"{_OWNER}/xception65-ade20k",
        "xception65, aspp",
        "ADE20K training",
        f"validation 45.65 (stride 8, {_SIX})",
        439,
        "deeplabv3_xception_ade20k_train_2018_05_29.tar.gz",
    ),
    *(
        PublishedModel(f"{_OWNER}/{name}", name.partition("-")[0], data, "", megabytes, archive, is_segmenter=False)
        for name, data, megabytes, archive in (
            ("xception41-imagenet", "ImageNet", 288, "xception_41_2018_05_09.tar.gz"),
            ("xception65-imagenet", "ImageNet", 447, "deeplabv3_xception_2018_01_04.tar.gz"),
            ("xception65-coco", "ImageNet, COCO", 292, "xception_65_coco_pretrained_2018_10_02.tar.gz"),
            ("xception71-imagenet", "ImageNet", 474, "xception_71_2018_05_09.tar.gz"),
        )
    ),
)
_BY_NAME = {model.name: model for model in PUBLISHED_MODELS}


def find_model(text: str) -> PublishedModel | None:
    """The published model that a name means, `deeplab/...`; None where it means something else, as what is here does.

    Raises:
        UnknownNameError: none of them is called so.
    """
    if not text.startswith(f"{_OWNER}/") or "@" in text or Path(text).exists():
        return None
    if text not in _BY_NAME and not Path(_OWNER).exists():  # where that folder is, the rest is a slip of the pen
        raise UnknownNameError(f"unknown model '{text}'. {did_you_mean(text, _BY_NAME)} `segzoo models` lists them.")
    return _BY_NAME.get(text)


def cache_folder() -> Path:
    """The folder for archives and what is made of them, in the Hugging Face cache, which `HF_HOME` moves."""
    from huggingface_hub import constants  # not at import: it reads its settings then

    return Path(constants.HF_ASSETS_CACHE).expanduser() / "segzoo" / _OWNER


@contextmanager
def only_one_process(model: PublishedModel) -> Iterator[None]:
    """Have other processes wait that want the same model, so that it is fetched and converted once."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with FileLock(cache_folder() / f".{model.file_name}.lock"):
        yield


def fetch_archive(model: PublishedModel) -> Path:
    """A model's archive, downloaded where it is not in the cache; a download that broke off goes on.

    Raises:
        ConfigError: it cannot be had, or what came is not what was published.
    """
    from huggingface_hub import constants

    place = model.place
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.is_file() and constants.HF_HUB_OFFLINE:
        raise ConfigError(_not_fetched(model, "HF_HUB_OFFLINE is set"))
    prefix = f"{place.name}: {model.url}: "
    try:
        download([model.url], place, check=_fault, resumed=True, limits=Limits(most_bytes=model.megabytes * _ALLOWED))
    except DataError as error:
        problem = error.problems[0]
        if not problem.startswith(prefix):  # the disk's
            raise
        raise ConfigError(_not_fetched(model, problem.removeprefix(prefix).rstrip("."))) from None
    return place


def fetch_backbone(model: PublishedModel) -> Path:
    """A model's backbone, from a file of segzoo's own in the cache, which is made at the first time.

    Raises:
        ConfigError: the archive cannot be had.
        CheckpointError: the archive is refused.
    """
    from segzoo.backbones.weights.convert import convert_weights  # it fills a network, and that finds weights by name

    place = cache_folder() / f"{model.file_name}.safetensors"
    with only_one_process(model):
        if not place.is_file():
            convert_weights(fetch_archive(model), place)
    return place


def _fault(file: Path) -> str:
    """What is wrong with an archive: its checkpoint has a checksum for each variable."""
    try:
        read_tensorflow(file, file.name)
    except CheckpointError as error:
        return first_line(error)
    return ""


def _not_fetched(model: PublishedModel, reason: str) -> str:
    part = model.place.with_name(f"{model.place.name}.part")
    again = " The command goes on from what has come when it is run again." if part.exists() else ""
    return (
        f"{model.name}: {model.url} could not be downloaded ({reason}). Fetched elsewhere, it belongs at "
        f"{model.place}; {_MIRROR} names another address.{again}"
    )
