"""CIFAR-10 in its published layout, and what poses as it."""

import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from data.classification.cifar_files import FOLDER, NAMES, files, pickled, write_archive
from torchvision.datasets import CIFAR10

from segzoo.data.classification import build_classification_dataset
from segzoo.data.classification.safe_pickle import read_pickled_batch
from segzoo.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    return write_archive(tmp_path_factory.mktemp("cifar") / "cifar-10-python.tar.gz", files())


def test_the_pickles_are_those_of_python_2():
    """What a person can see of the published files: byte strings, and NumPy's old home."""
    content = files()["data_batch_1"]
    assert content.startswith(b"\x80\x02}q\x00(U\x0bbatch_label")
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in content
    assert pickle.loads(content, encoding="bytes")[b"data"].shape == (6, 3072)  # noqa: S301


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
    assert "cifar-10-python.tar.gz" in line
    assert str(tmp_path) in line
    assert "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz" in line
    assert "segzoo prepare-data cifar10" in line
    with pytest.raises(ConfigError, match="segzoo prepare-data cifar10 --root"):
        build_classification_dataset(data_config(name="cifar10", root=str(tmp_path / "none")), "train")
    with pytest.raises(ConfigError, match="no split 'trainval'"):
        build_classification_dataset(data_config(name="cifar10", root=str(tmp_path)), "trainval")


class Payload:
    """Makes a file where it is unpickled."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def hostile_pickles(witness: Path):
    touch = f"__import__('pathlib').Path({str(witness)!r}).touch()"
    yield "eval", pickle.dumps({b"data": Payload(eval, touch)}, protocol=2)
    yield "exec, protocol 5", pickle.dumps({b"data": Payload(exec, touch)}, protocol=5)
    yield (
        "class with an instance",
        b"\x80\x02(c__builtin__\neval\nX" + struct.pack("<i", len(touch)) + touch.encode() + b"o.",
    )
    yield "instance by name", b"(S" + repr(touch).encode() + b"\ni__builtin__\neval\n."
    yield "attribute of a class", pickle.dumps({b"data": Payload(getattr, str, "format")}, protocol=2)
    yield "codecs", pickle.dumps({b"data": b"\xff" * 3}, protocol=2)
    yield "another function of NumPy", b"\x80\x02cnumpy\nload\nX\x01\x00\x00\x00x\x85R."
    yield "dotted name", b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93."
    yield "persistent id", b"\x80\x02X\x01\x00\x00\x00xQ."
    yield "extension", b"\x80\x02\x82\x01."


def test_hostile_pickles_are_refused_and_nothing_runs(tmp_path):
    witness = tmp_path / "witness"
    for name, content in hostile_pickles(witness):
        with pytest.raises(DataError, match="^batch: (refused|damaged)"):
            read_pickled_batch(content, "batch")
        assert not witness.exists(), name
    pickle.loads(next(hostile_pickles(witness))[1])  # noqa: S301  # so they are what they seem to be
    assert witness.exists()


def test_a_hostile_archive_is_refused(tmp_path, data_config):
    witness = tmp_path / "witness"
    hostile = pickled({"labels": [], "data": Payload(eval, f"open({str(witness)!r}, 'w')")})
    write_archive(tmp_path / "cifar-10-python.tar.gz", {**files(), "data_batch_3": hostile})
    with pytest.raises(DataError, match=r"data_batch_3: refused, it names (builtins|__builtin__).eval"):
        build_classification_dataset(data_config(name="cifar10", root=str(tmp_path)), "train")
    assert not witness.exists()


def test_what_a_pickle_names_cannot_be_changed():
    setting = b"\x80\x02cnumpy\ndtype\n}X\x08\x00\x00\x00__call__X\x01\x00\x00\x00xsb."
    with pytest.raises(DataError, match="changes what it names"):
        read_pickled_batch(setting, "batch")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3072), np.float32),
        np.zeros((2, 3072), np.int8),
        np.array([[None]], dtype=object),
        np.zeros(3, dtype=[("a", "u1")]),
    ],
    ids=["float", "signed", "objects", "fields"],
)
def test_other_arrays_than_bytes_are_refused(array):
    with pytest.raises(DataError, match="another kind of array"):
        read_pickled_batch(pickled({"data": array}), "batch")


def test_column_order_is_read_too():
    array = np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    assert np.array_equal(read_pickled_batch(pickled({"data": array}), "batch")["data"], array)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test_batch", pickled({"data": np.zeros((2, 3071), np.uint8), "labels": [1, 2]}), "no rows of 3072 bytes"),
        ("test_batch", pickled({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}), "`labels` are not one number"),
        ("test_batch", pickled({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}), "0 to 9"),
        ("test_batch", pickled({"data": np.zeros((1, 3072), np.uint8), "labels": [True]}), "0 to 9"),
        ("test_batch", pickled([1, 2]), "no dictionary"),
        ("test_batch", b"\x80\x02}", "damaged or no file"),
        ("test_batch", b"", "damaged or no file"),
        ("batches.meta", pickled({"fine_label_names": NAMES}), "no label_names"),
    ],
)
def test_other_content_is_refused(tmp_path, data_config, name, content, message):
    write_archive(tmp_path / "cifar-10-python.tar.gz", {**files(), name: content})
    with pytest.raises(DataError, match=message):
        build_classification_dataset(data_config(name="cifar10", root=str(tmp_path)), "val")


def test_damaged_archives_are_refused(archive, tmp_path, data_config):
    copy = tmp_path / "cifar-10-python.tar.gz"
    config = data_config(name="cifar10", root=str(tmp_path))
    copy.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(DataError, match="damaged or incomplete"):
        build_classification_dataset(config, "train")
    write_archive(copy, {name: content for name, content in files().items() if name != "data_batch_5"})
    with pytest.raises(DataError, match=r"holds no cifar-10-batches-py/data_batch_5"):
        build_classification_dataset(config, "train")
    with tarfile.open(copy, "w:gz") as opened:
        link = tarfile.TarInfo(f"{FOLDER}/test_batch")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(link)
    with pytest.raises(DataError, match="is no file of CIFAR-10"):
        build_classification_dataset(config, "val")
