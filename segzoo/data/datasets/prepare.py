"""From nothing to a data set that trains: fetch, verify, unpack, convert, count."""

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segzoo.config.data import SharedDataConfig
from segzoo.data.datasets.spec import DATASET_REGISTRIES, DatasetSpec, Recipe, Source
from segzoo.data.reading.tree import is_hidden
from segzoo.errors import ConfigError, DataError, SegzooError, UnknownNameError, did_you_mean, in_groups
from segzoo.fetching.archive import is_archive, unpack
from segzoo.fetching.download import download, verify

logger = logging.getLogger(__name__)

_SHOWN = 20  # problems of one split that are spelled out


@dataclass(frozen=True)
class Prepared:
    """What is there now, in words; what is missing or wrong, one line each; and how to train on it."""

    lines: tuple[str, ...]
    problems: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class Preparable:
    """A data set that can be had, by one of its recipes."""

    recipe: Recipe
    dataset: str
    spec: DatasetSpec[Any]
    section: type[Any]  # of the configuration


def recipes() -> dict[str, Preparable]:
    """What `prepare` takes."""
    return {
        name: Preparable(recipe, dataset, registry[dataset], registry.section)
        for registry in DATASET_REGISTRIES.values()
        for dataset in registry
        for name, recipe in registry[dataset].recipes.items()
    }


def prepare(name: str, root: str | Path, archives: Sequence[str | Path] = ()) -> Prepared:
    """Make a data set ready below `root`, as far as it is not; what is there is never changed.

    Args:
        name: a recipe of a data set, such as voc, sbd (VOC with SBD's masks, the split `trainaug`) or camvid.
        root: folder of all data sets; `data.root` is `VOCdevkit`, `cityscapes`, ... inside it.
        archives: files to use in place of downloads.

    Raises:
        ConfigError: an archive does not exist or belongs to nothing here, or must be fetched by hand.
        DataError: an archive cannot be had, is refused or cannot be written.
    """
    known = recipes()
    if name not in known:
        raise UnknownNameError(f"unknown data set '{name}'. {did_you_mean(name, known)}")
    wanted, root = known[name], Path(root).expanduser()
    recipe = wanted.recipe
    _check_root(root, recipe.sources)
    made = recipe.makes is not None and (root / recipe.makes).is_file()
    missing = [source for source in recipe.sources if not made and not (root / source.place).exists()]
    given = _assigned([Path(file).expanduser() for file in archives], recipe.sources, missing)
    absent = [source for source in missing if source not in given and not source.urls]
    by_hand = [
        f"{root / source.place}: not there. Log in at {source.homepage}, fetch {source.filename} and run this again "
        f"with --archive {source.filename}"
        for source in absent
    ]
    if absent and len(absent) == len(recipe.sources):
        raise ConfigError(by_hand)
    try:
        for source in missing:
            if source not in absent:
                _place(source, root, given.get(source))
        if not made:
            recipe.make(root)
    except OSError as error:
        raise DataError(f"{error.filename or root}: {error.strerror}") from error
    nothing_done = made or (not missing and recipe.makes is None)
    return _inspect(wanted, root, by_hand, nothing_done=nothing_done)


def _place(source: Source, root: Path, archive: Path | None) -> None:
    """Unpack a given archive, or else a downloaded one, to where it belongs."""
    checksum = f"md5:{source.md5}" if source.md5 else None
    if archive is None:
        root.mkdir(parents=True, exist_ok=True)
        archive = root / source.filename
        download(
            source.urls,
            archive,
            size=source.size,
            checksum=checksum,
            check=_no_archive,
            resumed=source.size is not None and checksum is not None,
            by_hand=f"Fetch {source.filename} by hand ({source.homepage}) and name it: --archive FILE.",
        )
    else:
        verify(archive, checksum, source.filename)
    logger.info("unpacking %s to %s; the archive is not needed afterwards", archive, root / source.place)
    unpack(archive, source.folder, root / source.place)


def _no_archive(file: Path) -> str:
    return "" if is_archive(file) else "no tar or zip archive, or not all of it"


def _check_root(root: Path, needed: Sequence[Source]) -> None:
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


def _inspect(wanted: Preparable, root: Path, absent: Sequence[str], *, nothing_done: bool) -> Prepared:
    """Count what is there, by the rules of the data set's loader."""
    recipe = wanted.recipe
    folder = root / recipe.folder
    lines, problems = [], [*absent]
    for split, published in recipe.splits.items():
        count, wrong = _count(wanted, folder, split)
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


def _count(wanted: Preparable, folder: Path, split: str) -> tuple[int, list[str]]:
    """Images of a split, and what its loader says is wrong."""
    recipe, spec = wanted.recipe, wanted.spec
    config: SharedDataConfig = wanted.section(name=wanted.dataset, root=str(folder))
    found = () if recipe.images is None else folder.glob(recipe.images.format(split=split))
    images = sum(not is_hidden(path.name) for path in found)
    if split in recipe.unlabelled:
        return images, []
    try:
        if spec.listing is None:
            return len(spec.build(config, split)), []
        listing = spec.listing(config, split)
    except SegzooError as error:
        return images, [] if split in recipe.optional else error.problems
    return images or len(listing.items), [problem.line for problem in listing.problems]
