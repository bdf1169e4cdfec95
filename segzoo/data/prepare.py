"""From nothing to a data set that trains: fetch, verify, unpack, convert, count."""

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segzoo.config.classification_data import ClassificationDataConfig
from segzoo.config.schema import DataConfig
from segzoo.data import cityscapes
from segzoo.data.archive import unpack
from segzoo.data.classification import build_classification_dataset
from segzoo.data.dataset import PREPARED
from segzoo.data.download import download, verify
from segzoo.data.listing import LISTINGS
from segzoo.data.sbd import write_trainaug
from segzoo.data.sources import SOURCES, Source
from segzoo.data.tree import is_hidden
from segzoo.data.voc import TRAINAUG_LIST
from segzoo.errors import ConfigError, DataError, SegzooError, UnknownNameError, did_you_mean, in_groups

logger = logging.getLogger(__name__)

_VOC = "VOCdevkit/VOC2012"
_SHOWN = 20  # problems of one split that are spelled out


@dataclass(frozen=True)
class Prepared:
    """What is there now.

    Args:
        lines: for people, one per split.
        problems: what is missing or wrong, one line each.
        command: how to train on it.
    """

    lines: tuple[str, ...]
    problems: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class _Recipe:
    """How one data set is made from its archives.

    Args:
        dataset: `data.name`.
        archives: keys of the table that `make` needs, in order.
        splits: published number of images of each.
        train: what follows `segzoo train`.
        make: what follows the unpacking, given the root.
        makes: the file that it makes last, below the root; while it is there, no archive is needed.
        images: pattern of a split's images where no list says what belongs to it; fewer than published are a problem.
        unlabelled: splits without masks.
        classified: images have classes of their own, and no masks.
    """

    dataset: str
    archives: tuple[str, ...]
    splits: Mapping[str, int]
    train: str
    make: Callable[[Path], object] = lambda root: None
    makes: str | None = None
    images: str | None = None
    unlabelled: frozenset[str] = frozenset()
    classified: bool = False

    @property
    def folder(self) -> str:
        """`data.root`, below the root of all data sets."""
        return PREPARED[self.dataset]


RECIPES: Mapping[str, _Recipe] = {
    "voc": _Recipe(
        dataset="voc",
        archives=("voc",),
        splits={"train": 1_464, "val": 1_449},
        train="configs/deeplab_xception.yaml data.train_split=train",
    ),
    "sbd": _Recipe(
        dataset="voc",
        archives=("voc", "sbd"),
        splits={"trainaug": 10_582, "val": 1_449},
        train="configs/deeplab_xception.yaml",
        make=lambda root: write_trainaug(root / "SBD", root / _VOC),
        makes=f"{_VOC}/{TRAINAUG_LIST}",
    ),
    "cityscapes": _Recipe(
        dataset="cityscapes",
        archives=("cityscapes_images", "cityscapes_masks"),
        splits={"train": 2_975, "val": 500, "test": 1_525},
        train="configs/deeplab_xception_cityscapes.yaml",
        images=f"{cityscapes.IMAGES}/{{split}}/*/*{cityscapes.IMAGE_END}",
        unlabelled=frozenset({"test"}),
    ),
    "camvid": _Recipe(
        dataset="camvid",
        archives=("camvid",),
        splits={"train": 367, "val": 101, "test": 233},
        train="configs/deeplab_xception_camvid.yaml",
    ),
    "cifar10": _Recipe(
        dataset="cifar10",
        archives=("cifar10",),
        splits={"train": 50_000, "test": 10_000},
        train="configs/xception_cifar10.yaml",
        classified=True,
    ),
}


def prepare(
    name: str, root: str | Path, archives: Sequence[str | Path] = (), sources: Mapping[str, Source] | None = None
) -> Prepared:
    """Make a data set ready below `root`, as far as it is not; what is there is never changed.

    Args:
        name: voc, sbd (VOC with SBD's masks, the split `trainaug`), cityscapes, camvid or cifar10.
        root: folder of all data sets; `data.root` is `VOCdevkit`, `cityscapes`, `camvid` or `cifar10` inside it.
        archives: files to use in place of downloads.
        sources: another table of archives than ours.

    Raises:
        ConfigError: an archive does not exist or belongs to nothing here, or must be fetched by hand.
        DataError: an archive cannot be had, is refused or cannot be written.
    """
    if name not in RECIPES:
        raise UnknownNameError(f"unknown data set '{name}'. {did_you_mean(name, RECIPES)}")
    recipe, root = RECIPES[name], Path(root).expanduser()
    needed = [(SOURCES if sources is None else sources)[key] for key in recipe.archives]
    _refuse_inner_folder(root, needed)
    made = recipe.makes is not None and (root / recipe.makes).is_file()
    missing = [source for source in needed if not made and not (root / source.place).exists()]
    given = _assigned([Path(file).expanduser() for file in archives], needed, missing)
    _refuse_by_hand(root, needed, missing, list(given))
    absent = [source for source in missing if source not in given and not source.urls]
    try:
        for source in missing:
            if source not in absent:
                _place(source, root, given.get(source))
        if not made:
            recipe.make(root)
    except OSError as error:
        raise DataError(f"{error.filename or root}: {error.strerror}") from error
    nothing_done = made or (not missing and recipe.makes is None)
    return _inspect(recipe, root, absent, nothing_done=nothing_done)


def _place(source: Source, root: Path, archive: Path | None) -> None:
    """Unpack a given archive, or else a downloaded one, to where it belongs."""
    if archive is None:
        root.mkdir(parents=True, exist_ok=True)
        archive = download(source, root)
    else:
        verify(archive, source)
    logger.info("unpacking %s to %s; the archive is not needed afterwards", archive, root / source.place)
    unpack(archive, source.folder, root / source.place)


def _refuse_inner_folder(root: Path, needed: Sequence[Source]) -> None:
    """`--root data/VOCdevkit` would lead to a second VOCdevkit inside the first."""
    for source in needed:
        outer, _, inner = source.place.partition("/")
        if root.name == outer or (inner and (root / inner).is_dir()):
            raise ConfigError(
                f"--root: '{root}' is {outer} itself. Give the folder that holds it: --root {root.parent}"
            )


def _assigned(files: Sequence[Path], needed: Sequence[Source], missing: Sequence[Source]) -> dict[Source, Path]:
    """Which archive each file is: told by its name, and by nothing where only one is missing."""
    named = {source.filename.lower(): source for source in needed}
    given: dict[Source, Path] = {}
    problems = []
    for file in files:
        source = named.get(file.name.lower(), missing[0] if len(missing) == 1 else None)
        if not file.is_file():
            problems.append(f"--archive: no file '{file}'")
        elif source is None and missing:
            problems.append(f"--archive: '{file}' is none of {', '.join(s.filename for s in needed)}; keep its name")
        elif source is not None:
            given[source] = file
    if problems:
        raise ConfigError(problems)
    return given


def _refuse_by_hand(root: Path, needed: Sequence[Source], missing: Sequence[Source], given: Sequence[Source]) -> None:
    """Say what to fetch where nothing is there and a program may not fetch it."""
    if len(missing) == len(needed) and not given and not any(source.urls for source in missing):
        raise ConfigError(f"{root / source.place}: not there. {_by_hand(source)}" for source in missing)


def _by_hand(source: Source) -> str:
    return f"Log in at {source.homepage}, fetch {source.filename} and run this again with --archive {source.filename}"


def _inspect(recipe: _Recipe, root: Path, absent: Sequence[Source], *, nothing_done: bool) -> Prepared:
    """Count what is there, by the rules of the data set's loader."""
    folder = root / recipe.folder
    lines = []
    problems = [f"{root / source.place}: not there. {_by_hand(source)}" for source in absent]
    for split, published in recipe.splits.items():
        count, wrong = _count(recipe, folder, split)
        lines.append(f"  {split}: {count:,} of {published:,} images")
        if recipe.images is not None and count < published:
            problems.append(f"{folder}: {split} has {count:,} of {published:,} images")
        wrong = in_groups(wrong)
        if not absent:  # which would be all that a loader says
            problems += wrong[:_SHOWN]
        if len(wrong) > _SHOWN:
            problems.append(f"{folder}: {split}: ... and {len(wrong) - _SHOWN:,} more problems like these")
    state = "incomplete" if problems else "already there, nothing to do" if nothing_done else "ready"
    command = f"segzoo train {recipe.train} data.root={shlex.quote(str(folder))}"
    return Prepared((f"{folder}: {state}", *lines), tuple(dict.fromkeys(problems)), command)


def _count(recipe: _Recipe, folder: Path, split: str) -> tuple[int, list[str]]:
    """Images of a split, and what its loader says is wrong."""
    found = () if recipe.images is None else folder.glob(recipe.images.format(split=split))
    images = sum(not is_hidden(path.name) for path in found)
    if split in recipe.unlabelled:
        return images, []
    try:
        if recipe.classified:
            config = ClassificationDataConfig(name=recipe.dataset, root=str(folder))
            return len(build_classification_dataset(config, split)), []
        listing = LISTINGS[recipe.dataset](DataConfig(name=recipe.dataset, root=str(folder)), split)
    except SegzooError as error:  # training does without a test split
        return images, [] if split == "test" and not recipe.classified else error.problems
    return images or len(listing.pairs), [problem.line for problem in listing.problems]
