"""What a prediction run has to do: one job for each image, decided before anything is computed."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError, printable
from segzoo.inference.listing import Listing, mask_names
from segzoo.inference.outputs import KINDS, RASTER_SUFFIX, Targets, check_raster_kinds, output_paths

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Every `count`-th image from `index` on, so that several processes or machines share one listing.

    Raises:
        ConfigError: an index beyond the count.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ConfigError(f"--shard: {self.index}/{self.count} is none. Shards are 0/N to N-1/N, such as 0/4.")

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """`i/n` as a command line has it.

        Raises:
            ConfigError: something else.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise ConfigError(f"--shard: {text!r} is no i/n. Shards are 0/N to N-1/N, such as 0/4.")
        return cls(int(index), int(count))

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Those that are this shard's."""
        return items[self.index :: self.count]

    def file_name(self, name: str) -> str:
        """The name of a file that each shard has for its own.

        >>> Shard().file_name("done.jsonl"), Shard(0, 3).file_name("done.jsonl")
        ('done.jsonl', 'done_0_of_3.jsonl')
        """
        stem, dot, suffix = name.rpartition(".")
        return name if self.count == 1 else f"{stem}_{self.index}_of_{self.count}{dot}{suffix}"


def check_work(*, batch_size: int | None, max_pixels: int, skip_existing: bool, overwrite: bool) -> None:
    """See that amounts are some, and that outputs are either kept or replaced.

    Raises:
        ConfigError: a line for each that is not so.
    """
    amounts = {"batch_size": batch_size, "max_pixels": max_pixels}
    problems = [
        f"{key}: {value}; it is at least 1." for key, value in amounts.items() if value is not None and value < 1
    ]
    if skip_existing and overwrite:
        problems.append("skip_existing, overwrite: outputs that are there are either kept or replaced. Give one.")
    if problems:
        raise ConfigError(problems)


@dataclass(frozen=True)
class Job:
    """One image and the files that it becomes.

    Args:
        image: relative to the listing's folder.
        file: where it is.
        targets: files of every kind.
        is_raster: read and written by windows.
    """

    image: Path
    file: Path
    targets: Targets
    is_raster: bool = False

    @property
    def files(self) -> list[Path]:
        """All files that it becomes."""
        return [path for paths in self.targets.values() for path in paths]

    @property
    def name(self) -> str:
        """The image for reports."""
        return printable(self.image)


def plan_jobs(
    listing: Listing, output: Path, save: Sequence[str], labels: LabelSpace, is_raster: Callable[[Path], bool]
) -> list[Job]:
    """A job for each image, in the listing's order; names are computed over all, so that shards agree.

    Raises:
        ConfigError: two outputs would be one file, an output would replace an image, or rasters are to become what they
            cannot.
    """
    names = mask_names(listing.images)
    jobs = []
    rasters = {image for image in names if is_raster(listing.folder / image)}
    check_raster_kinds(save, [printable(image) for image in names if image in rasters])
    for image, name in names.items():
        file = listing.folder / image
        by_windows = image in rasters
        target = name.with_suffix(RASTER_SUFFIX) if by_windows else name
        jobs.append(Job(image, file, output_paths(output, target, save, labels), by_windows))
    check_jobs(jobs)
    return jobs


def check_jobs(jobs: Sequence[Job]) -> None:
    """Refuse jobs that would spoil each other's files, or the input's.

    Raises:
        ConfigError: two outputs would be one file, or an output would replace an image.
    """
    _check_clashes(jobs)
    _check_inputs(jobs)


def _check_clashes(jobs: Iterable[Job]) -> None:
    """Only folders of the input that are called as we call those of a kind, such as `_color`, can bring this about."""
    counts = Counter(str(path).casefold() for job in jobs for path in job.files)
    twice = [path for job in jobs for path in job.files if counts[str(path).casefold()] > 1]
    if twice:
        folders = ", ".join(f"_{kind}" for kind in KINDS if kind != "mask")
        raise ConfigError(
            f"{printable(twice[0])}: two outputs would have this name. Rename the input's folder: {folders} hold the "
            "other kinds of output."
        )


def _check_inputs(jobs: Iterable[Job]) -> None:
    """No output is an image of the input; folders are compared as the system finds them, links followed."""
    folders: dict[Path, str] = {}

    def place(path: Path) -> tuple[str, str]:
        if path.parent not in folders:
            folders[path.parent] = os.path.realpath(path.parent)
        return folders[path.parent], path.name

    inputs = {place(job.file) for job in jobs}
    replaced = [path for job in jobs for path in job.files if place(path) in inputs]
    if replaced:
        raise ConfigError(f"--output: {printable(replaced[0])} is an image of the input. Name another folder.")
