"""A folder for each class, and ImageNet's layout."""

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from segzoo.data.datasets.spec import build_classification_dataset
from segzoo.errors import ConfigError, DataError

CATS = [f"cat/{number}.png" for number in range(5)]
DOGS = [f"dog/{number}.jpg" for number in range(10)]


def contents(dataset):
    return dict(zip(dataset.ids, [tuple(dataset.labels.names[k] for k in own) for own in dataset.classes], strict=True))


def test_split_folders_are_read_as_torchvision_reads_them(tmp_path, make_images, data_config):
    make_images(tmp_path / "train", [*CATS, "dog/deep/er/0.png", "dog/notes.bmp"])
    make_images(tmp_path / "val", ["dog/1.png", "cat/9.PNG"])
    (tmp_path / "train" / "dog" / "readme.txt").write_text("no image")
    for split in ("train", "val"):
        dataset = build_classification_dataset(data_config(name="image_folder", root=str(tmp_path)), split)
        theirs = ImageFolder(tmp_path / split)
        assert list(dataset.labels.names) == theirs.classes
        found = [(str(file), k) for file, (k,) in zip(dataset.image_files, dataset.classes, strict=True)]
        assert sorted(found) == sorted(theirs.samples)
        for index, (path, _) in enumerate(found):
            assert np.array_equal(dataset.read_image(index), np.asarray(Image.open(path).convert("RGB")))


def test_a_share_of_each_class_is_held_out(tmp_path, make_images, data_config):
    make_images(tmp_path, [*CATS, *DOGS, "one/0.png"])
    config = data_config(name="image_folder", root=str(tmp_path), val_fraction=0.2)
    train, val = (contents(build_classification_dataset(config, split)) for split in ("train", "val"))
    assert not train.keys() & val.keys()
    assert train.keys() | val.keys() == {*CATS, *DOGS, "one/0.png"}
    assert sorted(classes[0] for classes in val.values()) == ["cat", "dog", "dog"]  # the only `one` is trained on
    other = contents(build_classification_dataset(config.model_copy(update={"split_seed": 1}), "val"))
    assert other.keys() != val.keys()


def test_stated_classes_decide_the_order(tmp_path, make_images, data_config):
    make_images(tmp_path / "train", [*CATS, *DOGS])
    stated = data_config(name="image_folder", root=str(tmp_path), classes=("dog", "cow", "cat"))
    assert build_classification_dataset(stated, "train").classes[0] == (2,)
    (tmp_path / "classes.txt").write_text("\ufeffdog\r\n\r\ncat\r\n", encoding="utf-8")
    listed = build_classification_dataset(data_config(name="image_folder", root=str(tmp_path)), "train")
    assert listed.labels.names == ("dog", "cat")


def test_all_that_is_wrong_is_said_at_once(tmp_path, make_images, data_config):
    make_images(tmp_path / "train", CATS)
    make_images(tmp_path / "val", ["cats/0.png", "cow/0.png", "cow/1.png"])
    config = data_config(name="image_folder", root=str(tmp_path))
    with pytest.raises(DataError) as caught:
        build_classification_dataset(config, "val")
    first, second = caught.value.problems
    assert "class 'cats' is none of the run's. Did you mean cat?" in first
    assert "class 'cow'" in second
    with pytest.raises(ConfigError, match="no split 'test' in .* Found: train, val"):
        build_classification_dataset(config, "test")


def test_nothing_to_read_is_said(tmp_path, data_config):
    with pytest.raises(ConfigError, match="no folder for each class"):
        build_classification_dataset(data_config(name="image_folder", root=str(tmp_path)), "train")
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="empty, no image"):
        build_classification_dataset(data_config(name="image_folder", root=str(tmp_path), classes=("cat",)), "train")


def test_hidden_files_and_folders_are_no_images(tmp_path, make_images, data_config):
    make_images(tmp_path / "train", ["cat/0.png", "cat/.thumbnails/0.png", ".cache/1.png", "cat/._1.png"])
    dataset = build_classification_dataset(data_config(name="image_folder", root=str(tmp_path)), "train")
    assert contents(dataset) == {"cat/0.png": ("cat",)}


WORDNET = ("n01440764", "n01443537", "n02084071")


@pytest.fixture
def imagenet(tmp_path, make_images):
    make_images(tmp_path / "train", [f"{name}/{name}_{number}.JPEG" for name in WORDNET for number in (1, 2)])
    return tmp_path


def test_imagenet_with_folders_of_classes(imagenet, make_images, data_config):
    make_images(imagenet / "val", [f"{WORDNET[2]}/ILSVRC2012_val_00000001.JPEG"])
    config = data_config(name="imagenet", root=str(imagenet))
    train, val = (build_classification_dataset(config, split) for split in ("train", "val"))
    assert train.labels.names == val.labels.names == WORDNET
    assert [k for (k,) in train.classes] == [0, 0, 1, 1, 2, 2]
    assert contents(val) == {f"{WORDNET[2]}/ILSVRC2012_val_00000001.JPEG": (WORDNET[2],)}


@pytest.mark.parametrize(
    "lines",
    [
        "ILSVRC2012_val_00000002.JPEG n02084071\nILSVRC2012_val_00000001.JPEG n01443537\n",
        "ImageId,PredictionString\r\nILSVRC2012_val_00000001,n01443537 85 1 499 272 n01443537 1 2 3 4\r\n"
        "ILSVRC2012_val_00000002,n02084071 1 2 3 4 \r\n",
    ],
)
def test_imagenet_with_a_map_of_validation_images(imagenet, make_images, data_config, lines):
    files = [f"ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2)]
    make_images(imagenet / "val", files)
    (imagenet / "map").write_text(lines)
    config = data_config(name="imagenet", root=str(imagenet), imagenet={"val_map": "map"})
    assert contents(build_classification_dataset(config, "val")) == {files[0]: (WORDNET[1],), files[1]: (WORDNET[2],)}


def test_imagenet_in_kaggles_folders(imagenet, make_images, data_config, tmp_path_factory):
    outer = tmp_path_factory.mktemp("ILSVRC")
    (outer / "Data").mkdir()
    imagenet.rename(outer / "Data" / "CLS-LOC")
    assert len(build_classification_dataset(data_config(name="imagenet", root=str(outer)), "train")) == 6


def test_imagenets_gaps_are_named(imagenet, make_images, data_config):
    make_images(imagenet / "val", ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG"])
    config = data_config(name="imagenet", root=str(imagenet))
    with pytest.raises(ConfigError, match="data.imagenet.val_map"):
        build_classification_dataset(config, "val")
    (imagenet / "map").write_text("ILSVRC2012_val_00000001.JPEG n99999999\n")
    mapped = data_config(name="imagenet", root=str(imagenet), imagenet={"val_map": "map"})
    with pytest.raises(DataError) as caught:
        build_classification_dataset(mapped, "val")
    assert "00000002.JPEG: map does not name it" in caught.value.problems[0]
    assert "class 'n99999999' is none" in caught.value.problems[1]
    (imagenet / "train" / "dog").mkdir()
    with pytest.raises(ConfigError, match="data.name=image_folder"):
        build_classification_dataset(config, "train")


def test_a_validation_folder_alone_is_no_class(tmp_path, make_images, data_config):
    make_images(tmp_path, ["val/cat/0.png", "val/dog/0.png"])
    config = data_config(name="image_folder", root=str(tmp_path))
    with pytest.raises(ConfigError, match="no split 'train'"):
        build_classification_dataset(config, "val")
    stated = config.model_copy(update={"classes": ("cat", "dog")})
    assert len(build_classification_dataset(stated, "val")) == 2
