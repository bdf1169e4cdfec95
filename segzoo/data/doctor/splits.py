"""Every sample of a split scanned, whatever is wrong with the split."""

from dataclasses import dataclass
from functools import partial

from segzoo.config.schema import DataConfig
from segzoo.data.cores import map_on_all_cores
from segzoo.data.dataset import DATASETS, build_dataset
from segzoo.data.doctor.scan import Scan, scan_pair, scan_sample
from segzoo.data.labels import LabelSpace
from segzoo.data.listing import Listing, Problem
from segzoo.data.pairs import Pair, empty_split
from segzoo.data.pixels import PixelFormat
from segzoo.data.regroup import regrouped_labels
from segzoo.errors import ConfigError, DataError


@dataclass(frozen=True)
class SplitScan:
    """One split, read as far as it can be.

    Args:
        name: of the split.
        scans: its samples, in order.
        labels: None where only the masks tell, or nothing does.
        errors: what names and lists show to be wrong.
        warnings: what they show to be odd.
    """

    name: str
    scans: tuple[Scan, ...] = ()
    labels: LabelSpace | None = None
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def scan_splits(config: DataConfig, *, progress: bool) -> list[SplitScan]:
    """The training and the validation split.

    Args:
        config: the run's `data` section.
        progress: show a bar on standard error.

    Raises:
        ConfigError: neither split is there, or there is no such data set.
    """
    names = dict.fromkeys((config.train_split, config.val_split))
    scanned, refusals = [], []
    for name in names:
        try:
            scanned.append(_scan_split(config, name, progress=progress))
        except ConfigError as error:
            refusals += error.problems
            scanned.append(SplitScan(name, errors=tuple(Problem("no split", line) for line in error.problems)))
    if len(refusals) >= len(names):
        raise ConfigError(dict.fromkeys(refusals))
    return scanned


def _scan_split(config: DataConfig, split: str, *, progress: bool) -> SplitScan:
    list_split = DATASETS[config.name].listing
    if list_split is None:
        return _scan_samples(config, split, progress=progress)
    listing = list_split(config, split)
    labels = regrouped_labels(listing.labels, config) if listing.labels else None
    read = partial(scan_pair, pixels=PixelFormat.of(config), labels=labels)
    scans = map_on_all_cores(read, listing.items, f"reading {split}", progress=progress)
    errors = (*listing.problems, *empty_split_problems(listing))
    return SplitScan(split, tuple(scans), labels, errors, listing.warnings)


def empty_split_problems(listing: Listing[Pair]) -> list[Problem]:
    """That there is no sample, where no other problem is the reason."""
    return [] if listing.items or listing.problems else [Problem("empty split", empty_split(listing.where))]


def _scan_samples(config: DataConfig, split: str, *, progress: bool) -> SplitScan:
    """A data set of one's own class, whose files only it knows."""
    try:
        dataset = build_dataset(config, split)
    except DataError as error:
        return SplitScan(split, errors=tuple(Problem("refused by the loader", line) for line in error.problems))
    read = partial(scan_sample, dataset)
    scans = map_on_all_cores(read, range(len(dataset)), f"reading {split}", progress=progress)
    return SplitScan(split, tuple(scans), dataset.labels.of_indices())
