"""Data sets of one's own, classes regrouped in any data set, and what is said where one is missing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segzoo.config.load import apply_overrides, config_from_tree
from segzoo.config.schema import DataConfig, RunConfig, SyntheticConfig
from segzoo.data import LabelSpace, Sample, build_dataset, register_dataset
from segzoo.errors import ConfigError
from segzoo.training.train import train

STRIPES = LabelSpace(("left", "middle", "right"), ((255, 0, 0), (0, 255, 0), (0, 0, 255)))

SCRIPT = """
import sys
import numpy as np
import segzoo
from segzoo.data import LabelSpace, Sample

class Squares:
    labels = LabelSpace.from_names(["ground", "square"])

    def __init__(self, count):
        self.ids = [f"square_{{index}}" for index in range(count)]

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        mask = np.zeros((40, 48), np.uint8)
        mask[8:24, index : index + 16] = 1
        return Sample(np.repeat(mask[..., None] * np.uint8(200), 3, axis=2), mask, self.ids[index])

@segzoo.register_dataset("squares")
def build_squares(config, split):
    return Squares(6 if split == "train" else 2)

if __name__ == "__main__":
    result = segzoo.train(segzoo.load_config(sys.argv[1], sys.argv[2:]))
    print(result.summary["steps"], result.labels.names, result.run_dir)
"""


class Stripes:
    """Three stripes in their classes' colours."""

    labels = STRIPES

    def __init__(self, count: int) -> None:
        self.ids = [f"stripes_{index}" for index in range(count)]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        mask = np.repeat(np.arange(3, dtype=np.uint8), 20)[None].repeat(48, axis=0)
        mask[index] = 255
        return Sample(np.array(STRIPES.palette, np.uint8)[np.minimum(mask, 2)], mask, self.ids[index])


@pytest.fixture
def stripes(own_parts: None) -> None:
    register_dataset("stripes")(lambda config, split: Stripes(5 if split == "train" else 2))


def own_config(base: dict, run_dir: Path, *changes: str) -> RunConfig:
    return config_from_tree(apply_overrides(base, ["data.name=stripes", f"run_dir={run_dir}", *changes]))


BASE = {
    "data": {"name": "stripes", "batch_size": 2, "crop_size": 32},
    "model": {"decoder": "unet", "output_stride": 32, "backbone": {"name": "xception", "width": 0.05}},
    "trainer": {"max_steps": 2, "progress": False, "accelerator": "cpu"},
}


def test_a_registered_class_trains(tmp_path: Path, stripes: None) -> None:
    result = train(own_config(BASE, tmp_path / "run"))
    assert (result.summary["steps"], result.labels) == (2, STRIPES)


def test_a_registered_class_trains_with_merged_classes(tmp_path: Path, stripes: None) -> None:
    result = train(own_config(BASE, tmp_path / "run", "data.merge_classes={side: [left, right]}"))
    assert result.labels.names == ("side", "middle")


def test_a_script_registers_its_own_and_trains(tmp_path: Path, repository: Path) -> None:
    script = tmp_path / "my_training.py"
    script.write_text(SCRIPT.replace("{{", "{").replace("}}", "}"))
    config = tmp_path / "squares.yaml"
    config.write_text(
        "data: {name: squares, batch_size: 2, crop_size: 32, num_workers: 1}\n"
        "model: {decoder: unet, output_stride: 32, backbone: {name: xception, width: 0.05}}\n"
        "trainer: {max_steps: 2, progress: false, accelerator: cpu}\n"
    )
    command = [sys.executable, str(script), str(config), f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == f"2 ('ground', 'square') {tmp_path / 'run'}"
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()


def test_classes_of_any_data_set_are_regrouped() -> None:
    small = SyntheticConfig(train_images=2, val_images=1, size=(32, 40))
    whole = build_dataset(DataConfig(name="synthetic", synthetic=small), "train")
    first, second, third, *others = whole.labels.names
    config = DataConfig(
        name="synthetic", synthetic=small, ignore_classes=(second,), merge_classes={"both": (first, third)}
    )
    data = build_dataset(config, "train")
    assert data.labels.names == ("both", *others)
    assert data.ids == whole.ids
    meaning = {0: 0, 1: 255, 2: 0, 255: 255} | {index + 3: index + 1 for index in range(len(others))}
    for index in range(2):
        expected = [[meaning[value] for value in row] for row in whole[index].mask.tolist()]
        assert data[index].mask.tolist() == expected
        np.testing.assert_array_equal(data[index].image, whole[index].image)


def test_unknown_classes_are_told_for_every_data_set() -> None:
    config = DataConfig(name="synthetic", ignore_classes=("nothing like it",))
    with pytest.raises(ConfigError, match=r"data\.ignore_classes: no class 'nothing like it'"):
        build_dataset(config, "train")


@pytest.mark.parametrize(
    ("name", "root", "command"),
    [
        ("voc", "data/VOCdevkit", "voc --root data"),
        ("voc", "data/VOCdevkit/VOC2012", "voc --root data"),
        ("cityscapes", "big/cityscapes", "cityscapes --root big"),
        ("camvid", "camvid", "camvid --root ."),
        ("camvid", "elsewhere", "camvid --root DIR"),
        ("camvid", None, "camvid --root ."),
    ],
)
def test_missing_data_names_the_command_that_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, root: str | None, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        build_dataset(DataConfig(name=name, root=root), "train")
    assert caught.value.problems[0].endswith(f"To download it: segzoo prepare-data {command}")


def test_missing_folders_of_ones_own_name_no_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        build_dataset(DataConfig(name="folder", root=str(tmp_path / "no")), "train")
    assert "prepare_data" not in caught.value.problems[0]


@pytest.mark.parametrize(
    ("name", "root", "changes"),
    [
        ("voc", "VOCdevkit", ["data.train_split=trainaug"]),
        ("cityscapes", "cityscapes", ["data.ignore_classes=[terrain]"]),
        ("camvid", "camvid", ["data.val_split=val"]),
        ("folder", "nuclei", ["data.merge_classes={cell: [class_1, class_2]}"]),
    ],
)
def test_real_data_sets_train_two_steps(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, root: str, changes: list[str]
) -> None:
    from segzoo.data.loading import datamodule

    real = datamodule.build_dataset

    def few(config: DataConfig, split: str) -> object:
        """All of a split for training; of validation, which runs whole images, a piece of one."""
        dataset = real(config, split)
        return First(dataset) if split == config.val_split else dataset

    monkeypatch.setattr(datamodule, "build_dataset", few)
    changes = [f"data.name={name}", f"data.root={shared / 'data' / root}", "data.num_workers=0", *changes]
    result = train(own_config(BASE, tmp_path / "run", *changes))
    assert result.summary["steps"] == 2
    assert result.scores.pixel_accuracy is not None


class First:
    """A corner of the first sample of another data set."""

    def __init__(self, dataset: object) -> None:
        self.dataset = dataset
        self.labels = dataset.labels
        self.ids = dataset.ids[:1]

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        return Sample(sample.image[:256, :256], sample.mask[:256, :256], sample.id)
