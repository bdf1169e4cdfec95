"""From nothing to a data set that trains: fetch, verify, unpack, convert, count."""

import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from segzoo.config.data import SharedDataConfig
from segzoo.data.datasets.spec import DATASET_REGISTRIES, DatasetSpec
from segzoo.data.reading.tree import is_hidden
from segzoo.errors import ConfigError, DataError, SegzooError, UnknownNameError, did_you_mean, in_groups
from segzoo.fetching.archive import unpack
from segzoo.fetching.download import download, verify
from segzoo.fetching.sources import Recipe, Source

logger = logging.getLogger(__name__)

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
class _Target:
    """A data set that can be had: its recipe, the data set itself, and its `data` section in a folder."""

    recipe: Recipe
    spec: DatasetSpec[Any]
    config: Callable[[Path], SharedDataConfig]


def recipes() -> dict[str, tuple[str, Recipe]]:
    """What `prepare` takes: the name of the data set that each makes, and how."""
    return {name: (target.config(Path()).name, target.recipe) for name, target in _targets().items()}


def _targets() -> dict[str, _Target]:
    found = {}
    for registry in DATASET_REGISTRIES.values():
        for dataset in registry:
            spec: DatasetSpec[Any] = registry[dataset]
            for name, recipe in spec.recipes.items():
                found[name] = _Target(recipe, spec, partial(_section, registry.section, dataset))
    return found


def _section(section: type[Any], dataset: str, folder: Path) -> SharedDataConfig:
    config: SharedDataConfig = section(name=dataset, root=str(folder))
    return config


def prepare(name: str, root: str | Path, archives: Sequence[str | Path] = ()) -> Prepared:
    """Make a data set ready below `root`, as far as it is not; what is there is never changed.

    Args:
        name: a recipe of a data set: voc, sbd (VOC with SBD's masks, the split `trainaug`), cityscapes, camvid, ...
        root: folder of all data sets; `data.root` is `VOCdevkit`, `cityscapes`, ... inside it.
        archives: files to use in place of downloads.

    Raises:
        ConfigError: an archive does not exist or belongs to nothing here, or must be fetched by hand.
        DataError: an archive cannot be had, is refused or cannot be written.
    """
    targets = _targets()
    if name not in targets:
        raise UnknownNameError(f"unknown data set '{name}'. {did_you_mean(name, targets)}")
    target, root = targets[name], Path(root).expanduser()
    recipe = target.recipe
    needed = recipe.sources
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
    return _inspect(target, root, absent, nothing_done=nothing_done)


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


def _inspect(target: _Target, root: Path, absent: Sequence[Source], *, nothing_done: bool) -> Prepared:
    """Count what is there, by the rules of the data set's loader."""
    recipe = target.recipe
    folder = root / recipe.folder
    lines = []
    problems = [f"{root / source.place}: not there. {_by_hand(source)}" for source in absent]
    for split, published in recipe.splits.items():
        count, wrong = _count(target, folder, split)
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


def _count(target: _Target, folder: Path, split: str) -> tuple[int, list[str]]:
    """Images of a split, and what its loader says is wrong."""
    recipe, spec, config = target.recipe, target.spec, target.config(folder)
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
