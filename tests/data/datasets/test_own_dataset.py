"""A data set of somebody's own, with every part that one may have: it is treated like ours."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo.config.schema import DataConfig
from segzoo.data.datasets.listing import FileDataset, Listing, Pair, Problem
from segzoo.data.datasets.prepare import prepare
from segzoo.data.datasets.spec import (
    FoundLayout,
    Recipe,
    Source,
    build_classification_dataset,
    build_dataset,
    built_from,
    count_classes,
    input_folders,
    register_dataset,
)
from segzoo.data.inspection.check import check_data, quick_check
from segzoo.data.inspection.choices import Machine
from segzoo.data.inspection.make_config import make_config
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import ConfigError, DataError, UnknownNameError
from segzoo.inference.augment import published_augmentation
from segzoo.tasks.names import known_names

LABELS = LabelSpace.from_names(["land", "sea"])


class SeasOptions(segzoo.Section):
    """Where the masks are."""

    end: str = "_sea.png"
    """What the names of masks end in."""


def list_seas(config: DataConfig, split: str, options: SeasOptions) -> Listing[Pair]:
    folder = Path(config.root or "", split)
    masks = {path.name.removesuffix(options.end): path for path in sorted(folder.glob(f"*{options.end}"))}
    images = {path.stem: path for path in sorted(folder.glob("*.jpg"))}
    pairs = tuple(Pair(name, path, masks[name]) for name, path in images.items() if name in masks)
    problems = tuple(Problem("missing mask", f"{path}: no mask") for name, path in images.items() if name not in masks)
    return Listing(pairs, problems, f"{config.root}, split {split}", LABELS)


def find_seas(folder: Path) -> FoundLayout | None:
    return FoundLayout(folder, "SEAS.md: Seas") if (folder / "SEAS.md").exists() else None


ARCHIVE = Source("seas.tar", "seas", "seas", "http://seas.example")


@pytest.fixture(autouse=True)
def seas(own_parts: None) -> None:
    register_dataset(
        "seas",
        options=SeasOptions,
        listing=list_seas,
        labels=LABELS,
        recipes={"seas": Recipe((ARCHIVE,), "seas", {"train": 4, "val": 4}, "seas.yaml")},
        recognise=find_seas,
        scales=(1.0, 2.0),
    )(built_from(list_seas))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "seas"
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        for index in range(4):
            image = Image.fromarray(random.integers(0, 256, (40, 50, 3), np.uint8))
            image.save(folder / split / f"{index}.jpg")
            mask = Image.fromarray(np.repeat(np.arange(2, dtype=np.uint8)[:, None], 25, axis=0).repeat(40, axis=1).T)
            mask.save(folder / split / f"{index}_sea.png")
    (folder / "SEAS.md").touch()
    return folder


def load(*overrides: str) -> DataConfig:
    tree = {"data": {"name": "seas"}, "trainer": {"max_steps": 1}}
    return segzoo.load_config(tree, overrides, known_names=known_names()).data  # type: ignore[call-arg]


def test_its_files_are_read_checked_and_kept_free_of_outputs(root: Path) -> None:
    config = DataConfig(name="seas", root=str(root))
    dataset = build_dataset(config, "train")
    assert isinstance(dataset, FileDataset)
    assert dataset.ids == ("0", "1", "2", "3")
    assert np.unique(dataset[0].mask).tolist() == [0, 1]
    assert input_folders(config) == {root / "train", root / "val"}
    quick_check(config)
    (root / "val/2_sea.png").unlink()
    with pytest.raises(DataError, match="2.jpg: no mask"):
        quick_check(config)
    report = check_data(config, progress=False)
    assert [(finding.kind, finding.split) for finding in report.findings] == [("missing mask", "val")]
    assert report.splits[0].samples == 4


def test_its_keys_are_checked_like_ours(root: Path) -> None:
    assert load("data.seas.end=_x.png").part("seas", SeasOptions) == SeasOptions(end="_x.png")
    with pytest.raises(ConfigError, match=r"data.seas.ends: unknown key. Did you mean data.seas.end\?"):
        load("data.seas.ends=_x.png")
    with pytest.raises(ConfigError, match=r"data.name: unknown name 'sea'. Did you mean seas\?"):
        load("data.name=sea")
    with pytest.raises(ConfigError, match=r"data set seas does not read data.classes. .* does: folder."):
        load("data.classes=[a,b]")
    with pytest.raises(ConfigError, match=r"data set folder does not read data.seas. .* does: seas."):
        load("data.name=folder", "data.seas.end=_x.png")
    config = load("data.seas.end=_x.png").model_copy(update={"root": str(root)})
    with pytest.raises(DataError, match=r"0.jpg and 3 more .*: no mask"):
        build_dataset(config, "train")


def test_it_is_found_and_its_classes_are_known(root: Path, tmp_path: Path) -> None:
    assert count_classes(DataConfig(name="seas")) == (2, "those of seas, whose files are not at hand")
    assert published_augmentation("seas").scales == (1.0, 2.0)
    made = make_config(root, tmp_path / "made.yaml", machine=Machine(1, 4.0), progress=False)
    assert "SEAS.md: Seas" in made.findings[0]
    assert segzoo.load_config(made.path).data.name == "seas"


def test_it_is_prepared_from_its_archive(root: Path) -> None:
    with pytest.raises(ConfigError, match="Log in at http://seas.example, fetch seas.tar"):
        prepare("seas", root / "elsewhere")
    prepared = prepare("seas", root.parent)
    assert prepared.lines == (f"{root}: already there, nothing to do", "  train: 4 of 4 images", "  val: 4 of 4 images")
    assert prepared.command == f"segzoo train seas.yaml data.root={root}"
    with pytest.raises(UnknownNameError, match=r"'sea'. Did you mean seas\?"):
        prepare("sea", root)


def test_a_name_is_taken_once_for_each_task(root: Path) -> None:
    with pytest.raises(ConfigError, match="data set 'seas' is registered already"):
        register_dataset("seas")(build_dataset)
    with pytest.raises(ConfigError, match="data set 'batch_size': data.batch_size is a key already"):
        register_dataset("batch_size", options=SeasOptions)(build_dataset)
    segzoo.register_classification_dataset("seas", options=SeasOptions)(lambda config, split, options: options)
    config = segzoo.load_config(
        {"task": "classification", "data": {"name": "seas", "seas": {"end": "_y"}}, "trainer": {"max_steps": 1}}
    )
    assert build_classification_dataset(config.data, "train") == SeasOptions(end="_y")  # type: ignore[comparison-overlap]
