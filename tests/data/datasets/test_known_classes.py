"""How many classes a data set has, with its files and without."""

import pytest

from segzoo.config.schema import DataConfig
from segzoo.data.datasets.spec import count_classes


@pytest.mark.parametrize(
    ("data", "classes", "words"),
    [
        ({"name": "voc"}, 21, "those of voc"),
        ({"name": "voc", "root": "nowhere", "ignore_classes": ["cat", "dog"]}, 19, "those of voc"),
        ({"name": "cityscapes"}, 19, "those of cityscapes"),
        ({"name": "camvid"}, 11, "those of camvid"),
        ({"name": "synthetic"}, 7, "synthetic, split val"),
        ({"name": "folder", "classes": ["sea", "ice"]}, 2, "those of folder"),
        ({"name": "folder", "folder": {"mask_values": {"sea": 0, "ice": 255, "land": 7}}}, 3, "those of folder"),
        ({"name": "folder"}, 21, "assumed"),
    ],
)
def test_number_of_classes_without_files(data, classes, words):
    found, source = count_classes(DataConfig.model_validate(data))
    assert found == classes
    assert source.startswith(words)


def test_number_of_classes_from_files(shared):
    data = DataConfig(name="camvid", root=str(shared / "data" / "camvid"))
    assert count_classes(data) == (11, "camvid, split val")
