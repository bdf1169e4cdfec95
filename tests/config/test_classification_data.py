"""The data section of classification runs."""

import re

import pytest

import segzoo.data  # noqa: F401  # registers what reads which keys
from segzoo.config.load import config_from_tree
from segzoo.errors import ConfigError


def problems(**data):
    tree = {"task": "classification", "data": {"name": "image_folder", **data}, "trainer": {"max_steps": 1}}
    try:
        config_from_tree(tree)
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"image_size": 0}, "data.image_size"),
        ({"crop_area": [0.5, 0.2]}, "crop_area: 0.5 is above 0.2"),
        ({"crop_area": [0.5, 1.5]}, "crop_area: 1.5 is more than the whole image"),
        ({"crop_ratio": [2.0, 0.5]}, "crop_ratio: 2.0 is above 0.5"),
        ({"center_crop": 0.0}, "data.center_crop"),
        ({"center_crop": 1.1}, "data.center_crop"),
        ({"val_fraction": 1.0}, "data.val_fraction"),
        ({"csv": {"multi_label": True}}, "classification image_folder does not read data.csv. .*does: csv"),
        ({"imagenet": {"val_map": "x"}}, "image_folder does not read data.imagenet. .*does: imagenet"),
        ({"name": "cifar10", "classes": ["a"]}, "cifar10 does not read data.classes. .*does: csv, image_folder"),
        ({"channels": 4, "augmentation": {"rand_augment": 9}}, "color and rand_augment are for 8-bit RGB"),
        ({"channels": 3, "value_range": [0, 1], "augmentation": {"color": 0.1}}, "color and rand_augment"),
        ({"channels": 4, "preprocessing": {"mean": [0.5], "std": [0.5]}}, "one for each channel"),
        ({"value_range": [1, 1]}, "value_range: .* is empty"),
        ({"augmentation": {"rand_augment": 31}}, "data.augmentation.rand_augment"),
        ({"augmentation": {"mixup": -0.1}}, "data.augmentation.mixup"),
        ({"augmentation": {"zoom": 1.0}}, "data.augmentation.zoom"),
        ({"crop_size": 299}, "data.crop_size: unknown key"),
    ],
)
def test_contradictions_are_refused_in_one_line(data, message):
    (problem,) = problems(**data)
    assert re.search(message, problem)


def test_sound_sections_are_taken():
    assert not problems(channels=4, augmentation={"rotation": 20.0})
    assert not problems(name="csv", csv={"multi_label": True}, classes=["a", "b"])
    assert not problems(name="imagenet", imagenet={"val_map": "LOC_val_solution.csv"}, image_size=[320, 240])
