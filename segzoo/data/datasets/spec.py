"""Data sets by name: what each is made of (`DatasetSpec`), and what all loaders say when something is not there."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from segzoo.config.classification import ClassificationDataConfig
from segzoo.config.data import DataConfig, SharedDataConfig
from segzoo.config.load import KnownNames
from segzoo.config.sections import Options, PartRegistry, Section
from segzoo.data.datasets.classes import regroup, regrouped_labels
from segzoo.data.datasets.listing import FileDataset, Listing, Pair
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import PixelFormat, warn_of_dark
from segzoo.data.reading.tree import is_folder
from segzoo.data.sample import ClassificationDataset, ReadFromFiles, SegmentationDataset
from segzoo.errors import ConfigError, SegzooError

Images = TypeVar("Images")
T = TypeVar("T")
BuilderT = TypeVar("BuilderT", bound=Callable[..., Any])

_ASSUMED_CLASSES = 21


@dataclass(frozen=True)
class Source:
    """One archive of a data set.

    Args:
        filename: of the archive.
        folder: the folder inside it that is wanted.
        place: what that folder becomes, below the root of all data sets.
        homepage: where a person finds the archive.
        urls: mirrors, tried in order; empty where a licence or a login forbids downloads by a program. None could be
            opened where ours were written: the content is verified by its checksum.
        size: in bytes, where it is known.
        md5: checksum, where one is published; None is never filled by a guess.
    """

    filename: str
    folder: str
    place: str
    homepage: str
    urls: tuple[str, ...] = ()
    size: int | None = None
    md5: str | None = None


@dataclass(frozen=True)
class Recipe:
    """How one data set is made from its archives, as `segzoo prepare-data` does it.

    Args:
        sources: the archives that `make` needs, in order.
        folder: `data.root` then, below the root of all data sets.
        splits: published number of images of each.
        train: what follows `segzoo train`.
        make: what follows the unpacking, given the root.
        makes: the file that it makes last, below the root; while it is there, no archive is needed.
        images: pattern of a split's images where no list says what belongs to it; fewer than published are a problem.
        unlabelled: splits without masks.
        optional: splits that training does without.
    """

    sources: tuple[Source, ...]
    folder: str
    splits: Mapping[str, int]
    train: str
    make: Callable[[Path], object] = lambda root: None
    makes: str | None = None
    images: str | None = None
    unlabelled: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()


@dataclass(frozen=True)
class FoundLayout:
    """A folder that holds a data set as it is published: `data.root`, how it was told, and `data.train_split`."""

    root: Path
    reason: str
    train_split: str = "train"


@dataclass(frozen=True)
class DatasetSpec(Generic[Images]):
    """One data set: what everything else asks of it. All but `build` is optional.

    Args:
        build: from the run's `data` section and the name of a split to its samples.
        listing: from the same to the split's files as names and lists show them, without decoding any, so that
            `segzoo check-data` goes on past the first fault; None for a data set that does not lie in files.
        labels: from the `data` section to the classes, as far as they are known without the files.
        recipes: how to get it, each under the name that `segzoo prepare-data` takes.
        recognise: whether a folder holds it, so that `segzoo make-config` finds it.
        scales: sizes at which its published results look at an image, each mirrored, too; None takes Pascal VOC's.
        drawn: whether its images are made on the spot, quicker than a process hands them to another.
    """

    build: Callable[[Any, str], Images]
    listing: Callable[[Any, str], Listing[Any]] | None = None
    labels: Callable[[Any], LabelSpace | None] = lambda config: None
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    recognise: Callable[[Path], FoundLayout | None] | None = None
    scales: tuple[float, ...] | None = None
    drawn: bool = False


DATASETS = PartRegistry[DatasetSpec[SegmentationDataset]](DataConfig)
CLASSIFICATION_DATASETS = PartRegistry[DatasetSpec[ClassificationDataset]](ClassificationDataConfig)
DATASET_REGISTRIES: Mapping[str, PartRegistry[Any]] = {
    "segmentation": DATASETS,
    "classification": CLASSIFICATION_DATASETS,
}
"""Task -> its data sets."""


def register_dataset(
    name: str,
    *,
    options: type[Options] | None = None,
    reads: Iterable[str] | None = None,
    listing: Callable[..., Listing[Any]] | None = None,
    labels: LabelSpace | Callable[..., LabelSpace | None] | None = None,
    recipes: Mapping[str, Recipe] | None = None,
    recognise: Callable[[Path], FoundLayout | None] | None = None,
    scales: tuple[float, ...] | None = None,
    drawn: bool = False,
    task: Literal["segmentation", "classification"] = "segmentation",
    replace: bool = False,
) -> Callable[[BuilderT], BuilderT]:
    """Decorate a function `(config, split) -> data set` so that `data.name` finds it.

    Args:
        name: value of `data.name`.
        options: its options, a class that extends `segzoo.Section`, with a default for each. They are the keys
            `data.NAME.*` of a configuration, and the function gets them as a last argument, as do `listing` and
            `labels`.
        reads: keys of the data section that only some data sets read, and this one does, such as `classes`; None
            without options of its own says that it may read any.
        listing: as in `DatasetSpec`, like all that follow but for the last two.
        labels: the classes, or a function of the configuration.
        recipes: ways to get it.
        recognise: tells whether a folder holds it.
        scales: of published results.
        drawn: made on the spot.
        task: of the runs that it is for.
        replace: whether it may take the place of another of that name, as when a notebook's cell runs again.

    Raises:
        ConfigError: the name is taken, or options that no configuration can hold.
    """

    def with_options(function: Callable[..., T]) -> Callable[..., T]:
        if options is None:
            return function
        return lambda config, *arguments: function(config, *arguments, config.part(name, options))

    def register(build: BuilderT) -> BuilderT:
        known = labels if callable(labels) else lambda *_: labels
        spec = DatasetSpec[Any](
            with_options(build),
            None if listing is None else with_options(listing),
            with_options(known),
            recipes or {},
            recognise,
            scales,
            drawn,
        )
        DATASET_REGISTRIES[task].add_part(name, spec, options, reads, replace=replace)
        return build

    return register


def register_classification_dataset(
    name: str,
    *,
    options: type[Options] | None = None,
    listing: Callable[..., Listing[Any]] | None = None,
    replace: bool = False,
) -> Callable[[BuilderT], BuilderT]:
    """Decorate a function `(config, split) -> data set` so that `data.name` finds it in classification runs.

    Arguments and errors are those of `register_dataset`, which has more of them.
    """
    return register_dataset(name, options=options, listing=listing, task="classification", replace=replace)


def built_from(listing: Callable[..., Listing[Pair]]) -> Callable[..., FileDataset]:
    """The function to register for a data set of which its listing says everything, the classes too."""

    def build(config: DataConfig, split: str, *options: Section) -> FileDataset:
        found = listing(config, split, *options)
        if found.labels is None:
            raise ConfigError(f"data.name={config.name}: its listing names no classes.")
        return FileDataset(found.checked(), found.labels, found.where, PixelFormat.of(config))

    return build


def spec_of(config: SharedDataConfig) -> DatasetSpec[Any]:
    """The data set that `config` names."""
    registry = next(known for known in DATASET_REGISTRIES.values() if isinstance(config, known.section))
    spec: DatasetSpec[Any] = registry[config.name]
    return spec


def build_dataset(config: DataConfig, split: str) -> SegmentationDataset:
    """One split of the data set that the `data` section names, with the classes that its settings leave.

    Raises:
        UnknownNameError: no data set is registered under `config.name`.
        ConfigError: the folder or the split does not exist, or a class to ignore or merge.
        DataError: what is in the folder cannot be used.
    """
    return regroup(_built(DATASETS[config.name], config, split), config)


def build_classification_dataset(config: ClassificationDataConfig, split: str) -> ClassificationDataset:
    """As `build_dataset`, for classification."""
    return _built(CLASSIFICATION_DATASETS[config.name], config, split)


def _built(spec: DatasetSpec[Images], config: SharedDataConfig, split: str) -> Images:
    dataset = spec.build(config, split)
    if isinstance(dataset, ReadFromFiles):
        warn_of_dark(dataset.image_files, dataset.pixels)
    return dataset


def input_folders(config: SharedDataConfig) -> set[Path]:
    """The folders that a run's images and masks lie in, where no output belongs; none of a set that is in no files."""
    files: list[Path] = []
    for split in {config.train_split, config.val_split}:
        with suppress(SegzooError):  # the command's own work says what is wrong
            listing = spec_of(config).listing
            files += listing(config, split).files if listing else ()
    return {file.parent for file in files}


def count_classes(config: DataConfig) -> tuple[int, str]:
    """How many classes the data set has, whose files need not be there, and how that is known, in words.

    Raises:
        ConfigError: a class to ignore or to merge that the data set does not have.
    """
    try:
        dataset = build_dataset(config, config.val_split)
        return dataset.labels.num_classes, f"{config.name}, split {config.val_split}"
    except SegzooError:  # a network can be looked at without its data
        labels = DATASETS[config.name].labels(config) if config.name in DATASETS else None
    if labels is None and config.classes:
        labels = LabelSpace.from_names(config.classes)
    if labels is None:
        return _ASSUMED_CLASSES, f"assumed, for the files of {config.name}, which would tell, are not at hand"
    return regrouped_labels(labels, config).num_classes, f"those of {config.name}, whose files are not at hand"


def data_set_names() -> KnownNames:
    """The names that `data.name` may take, for `load_config`; without the networks', which take longer to import."""
    return {"data.name": DATASETS, "classification:data.name": CLASSIFICATION_DATASETS}


def dataset_root(config: SharedDataConfig) -> Path:
    """The folder `data.root` names.

    Raises:
        ConfigError: none is named, or it does not exist.
    """
    if not config.root:
        raise ConfigError(f"data.root: not set. {how_to_get(config)}")
    root = Path(config.root).expanduser()
    if not is_folder(root):
        raise ConfigError(f"data.root: no folder '{root}'. {how_to_get(config)}")
    return root


def how_to_get(config: SharedDataConfig) -> str:
    """The end of a message that a data set is not where it was looked for."""
    advice = f"Give the folder of the {config.name} data: data.root=FOLDER"
    recipe = spec_of(config).recipes.get(config.name)
    if recipe is None:
        return advice
    # The tool makes that folder below its own --root.
    root = Path(config.root or recipe.folder)
    asked = next((str(folder.parent) for folder in (root, root.parent) if folder.name == recipe.folder), "DIR")
    return f"{advice}. To download it: segzoo prepare-data {config.name} --root {asked}"


def unknown_split(split: str, found: Sequence[str], where: str, instead: str = "") -> ConfigError:
    """The error for a split that is not there, listing those that are found `where` it was looked for.

    `instead` says what to do where a single one is there, besides adding the other.
    """
    listed = ", ".join(sorted(found)) or "none"
    another = "Add it" + (instead or ".") if len(found) == 1 else "Set data.train_split or data.val_split."
    return ConfigError(f"data: no split '{split}' in {where}. Found: {listed}. {another}")


def without_masks(split: str, images: Path) -> ConfigError:
    """The error for a split whose masks only the benchmark's server has."""
    return ConfigError(
        f"data: split '{split}' has no public masks, so that nothing can be trained or measured on it. "
        f"To segment its images: segzoo predict CHECKPOINT {images}"
    )
