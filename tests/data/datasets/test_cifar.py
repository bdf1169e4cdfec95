"""CIFAR-10 in its published layout, and what poses as it."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from data.datasets.cifar_files import FOLDER, files, write_archive, write_python_version
from torchvision.datasets import CIFAR10

from segzoo.data.datasets.spec import build_classification_dataset
from segzoo.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    return write_archive(tmp_path_factory.mktemp("cifar") / "cifar-10-binary.tar.gz", files())


@pytest.mark.parametrize("unpacked", [False, True, "inside"])
@pytest.mark.parametrize(("split", "train"), [("train", True), ("val", False), ("test", False)])
def test_archive_and_folder_give_what_torchvision_gives(
    archive, tmp_path, data_config, monkeypatch, unpacked, split, train
):
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    root = {False: archive.parent, True: tmp_path, "inside": tmp_path / FOLDER}[unpacked]
    dataset = build_classification_dataset(data_config(name="cifar10", root=str(root)), split)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)  # which knows the published sums
    write_python_version(tmp_path / "cifar-10-batches-py")
    theirs = CIFAR10(tmp_path, train=train)
    assert list(dataset.labels.names) == theirs.classes
    assert [k for (k,) in dataset.classes] == theirs.targets
    assert len(dataset) == len(theirs) == len(set(dataset.ids))
    for index, image in enumerate(theirs.data):
        assert np.array_equal(dataset.read_image(index), image)


def test_absent_data_are_one_line_with_what_to_fetch_and_where_to_put_it(tmp_path, data_config):
    with pytest.raises(ConfigError) as caught:
        build_classification_dataset(data_config(name="cifar10", root=str(tmp_path)), "train")
    (line,) = caught.value.problems
    assert "cifar-10-binary.tar.gz" in line
    assert str(tmp_path) in line
    assert "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz" in line
    assert "segzoo prepare-data cifar10" in line
    assert "python version" not in line
    with pytest.raises(ConfigError, match="segzoo prepare-data cifar10 --root"):
        build_classification_dataset(data_config(name="cifar10", root=str(tmp_path / "none")), "train")
    with pytest.raises(ConfigError, match="no split 'trainval'"):
        build_classification_dataset(data_config(name="cifar10", root=str(tmp_path)), "trainval")


@pytest.mark.parametrize("place", ["cifar-10-batches-py", ".", "cifar-10-python.tar.gz"])
def test_the_python_version_is_not_read_and_the_line_says_what_is(tmp_path, data_config, place):
    write_python_version(tmp_path / "cifar-10-batches-py")
    root = tmp_path
    if place == ".":
        root = tmp_path / "cifar-10-batches-py"
    elif place.endswith("gz"):
        (tmp_path / "cifar-10-batches-py").rename(tmp_path / "elsewhere")
        (tmp_path / place).touch()
    with pytest.raises(ConfigError) as caught:
        build_classification_dataset(data_config(name="cifar10", root=str(root)), "train")
    (line,) = caught.value.problems
    assert "is the python version" in line
    assert "segzoo prepare-data cifar10" in line


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test_batch.bin", bytes(2 * 3072), r"test_batch.bin: 6,144 bytes are no rows of 3073"),
        ("test_batch.bin", b"", "0 bytes are no rows of 3073"),
        ("test_batch.bin", b"\x0a" + bytes(3072), r"test_batch.bin: a class 10, where batches.meta.txt names 0 to 9"),
        ("batches.meta.txt", b"", "batches.meta.txt: names no class"),
    ],
)
def test_other_content_is_refused(tmp_path, data_config, name, content, message):
    write_archive(tmp_path / "cifar-10-binary.tar.gz", {**files(), name: content})
    with pytest.raises(DataError, match=message):
        build_classification_dataset(data_config(name="cifar10", root=str(tmp_path)), "val")


def test_damaged_archives_are_refused(archive, tmp_path, data_config):
    copy = tmp_path / "cifar-10-binary.tar.gz"
    config = data_config(name="cifar10", root=str(tmp_path))
    copy.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(DataError, match="damaged or incomplete"):
        build_classification_dataset(config, "train")
    write_archive(copy, {name: content for name, content in files().items() if name != "data_batch_5.bin"})
    with pytest.raises(DataError, match=r"holds no cifar-10-batches-bin/data_batch_5.bin"):
        build_classification_dataset(config, "train")
    with tarfile.open(copy, "w:gz") as opened:
        link = tarfile.TarInfo(f"{FOLDER}/test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(link)
    with pytest.raises(DataError, match="is no file of CIFAR-10"):
        build_classification_dataset(config, "val")


def test_a_folder_that_lacks_a_file_or_holds_too_much_is_refused(tmp_path, data_config):
    for name, content in files().items():
        (tmp_path / name).write_bytes(content)
    config = data_config(name="cifar10", root=str(tmp_path))
    with (tmp_path / "test_batch.bin").open("r+b") as file:
        file.truncate(2**30)
    with pytest.raises(DataError, match=r"test_batch.bin: 1,073,741,824 bytes are no file of CIFAR-10"):
        build_classification_dataset(config, "val")
    (tmp_path / "data_batch_2.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_2.bin: not there; unpack cifar-10-binary.tar.gz again"):
        build_classification_dataset(config, "train")
