"""HDF5 files made to harm, or odd ones: one line each, nothing read from elsewhere, no memory for what they claim."""

import os
import shutil
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from laboratory.benchmarks.memory import forget_peak, peak_bytes, resident_bytes
from segzoo.backbones import build_backbone
from segzoo.backbones.weights.recognise import read_weights
from segzoo.errors import CheckpointError, ConfigError

KERNEL = "block1_conv1/kernel"


@pytest.fixture(autouse=True)
def _no_memory_is_taken():
    if sys.platform != "linux":  # elsewhere the system does not say
        yield
        return
    forget_peak()
    before = resident_bytes()
    yield
    assert peak_bytes() - before < 900_000_000


@pytest.fixture
def chollets(shared, tmp_path):
    """A copy of Chollet's weights, to be changed: the file, opened, and its group of the first convolution."""

    def change(how) -> Path:
        path = tmp_path / "weights.h5"
        shutil.copy(shared / "weights" / "xception_imagenet_notop.h5", path)
        path.chmod(0o600)
        with h5py.File(path, "r+") as file:
            how(file, file["block1_conv1"])
        return path

    return change


def refused(path: Path, read=read_weights) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: ")
    assert "\n" not in problem
    return problem


def external_storage(folder):
    def change(file, group):
        del group[KERNEL]
        place = str(folder / "private")
        group.create_dataset(KERNEL, (3, 3, 3, 32), "<f4", external=[(place, 0, 3456)])

    return change


def external_link(folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["kernel"] = np.full((3, 3, 3, 32), 42, np.float32)

    def change(file, group):
        del group[KERNEL]
        group[KERNEL] = h5py.ExternalLink(str(folder / "other.h5"), "kernel")

    return change


def link_to_a_whole_layer_elsewhere(folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["layer/kernel"] = np.full((3, 3, 3, 32), 42, np.float32)

    def change(file, group):
        del file["block1_conv1"]
        file["block1_conv1"] = h5py.ExternalLink(str(folder / "other.h5"), "layer")

    return change


def virtual_dataset(folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["kernel"] = np.full((3, 3, 3, 32), 42, np.float32)

    def change(file, group):
        del group[KERNEL]
        layout = h5py.VirtualLayout((3, 3, 3, 32), "<f4")
        layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "kernel", (3, 3, 3, 32))
        group.create_virtual_dataset(KERNEL, layout)

    return change


def soft_link(folder):
    def change(file, group):
        file["elsewhere"] = np.full((3, 3, 3, 32), 42, np.float32)
        del group[KERNEL]
        group[KERNEL] = h5py.SoftLink("/elsewhere")

    return change


ELSEWHERE = {
    external_storage: "the numbers of /block1_conv1/block1_conv1/kernel lie in another file",
    external_link: "block1_conv1/block1_conv1/kernel is a link",
    link_to_a_whole_layer_elsewhere: "block1_conv1 is a link",
    virtual_dataset: "the numbers of /block1_conv1/block1_conv1/kernel lie in another file",
    soft_link: "block1_conv1/block1_conv1/kernel is a link",
}


@pytest.mark.parametrize("how", ELSEWHERE, ids=lambda how: how.__name__)
def test_numbers_that_lie_elsewhere_are_not_read(how, chollets, tmp_path):
    (tmp_path / "private").write_bytes(np.full(864, 42, np.float32).tobytes())
    assert f"refused, because {ELSEWHERE[how]}" in refused(chollets(how(tmp_path)))


def test_a_pipe_is_not_waited_for(chollets, tmp_path):
    os.mkfifo(tmp_path / "private")
    assert "lie in another file" in refused(chollets(external_storage(tmp_path)))
    with pytest.raises(ConfigError, match="private: not a plain file"):
        read_weights(tmp_path / "private")


def in_keras_3(path: Path, change) -> Path:
    with h5py.File(path, "w") as file:
        change(file.create_group("layers/conv2d/vars"))
    return path


def test_numbers_elsewhere_in_keras_3s_layout(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["0"] = np.zeros((3, 3, 3, 32), np.float32)
    path = tmp_path / "x.weights.h5"
    in_keras_3(path, lambda group: group.__setitem__("0", h5py.ExternalLink("other.h5", "0")))
    assert "layers/conv2d/vars/0 is a link" in refused(path)
    with h5py.File(path, "w") as file:
        file["layers"] = h5py.ExternalLink("other.h5", "/")
    assert "layers is a link" in refused(path)


@pytest.mark.parametrize(
    "dataset",
    [
        {"shape": (60_000, 60_000, 1, 1), "chunks": (64, 64, 1, 1)},
        {"shape": (30_000, 30_000, 1, 1), "chunks": (64, 64, 1, 1), "compression": "gzip"},
        {"shape": (1, 1, 1, 1), "chunks": (30_000, 30_000, 1, 1), "maxshape": (None, None, 1, 1)},
        {"shape": (2**40, 2**20), "chunks": (64, 64)},
    ],
    ids=["14 GB", "compressed", "one chunk", "beyond any address"],
)
def test_arrays_that_claim_more_than_the_file_has(dataset, tmp_path):
    path = in_keras_3(tmp_path / "x.weights.h5", lambda group: group.create_dataset("0", dtype="<f4", **dataset))
    assert path.stat().st_size < 10_000
    assert "its arrays claim more numbers than the file has" in refused(path)


def test_one_array_under_many_names(chollets):
    """Each name would be read into memory of its own."""

    def change(file, group):
        kernel = file["block14_sepconv2/block14_sepconv2/pointwise_kernel"]
        names = [f"block1_conv1/kernel{number}" for number in range(1500)]
        for name in names:
            group[name] = kernel
        group.attrs["weight_names"] = np.array(names, "S")

    assert "its arrays claim more numbers than the file has" in refused(chollets(change))


def test_keras_archives_that_unpack_to_more_than_they_are(tmp_path):
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("model.weights.h5", "w") as file:
        for _ in range(150):
            file.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    assert "refused, because it would unpack to 157,286,400 bytes" in refused(path)


def put(value):
    def change(file, group):
        del group[KERNEL]
        group[KERNEL] = value

    return change


def a_group(file, group):
    del group[KERNEL]
    group.create_group(KERNEL)


def attribute(where, name, value):
    return lambda file, group: file[where].attrs.__setitem__(name, value)


ODD = {
    "text": put([b"abc"]),
    "one number": put(1.0),
    "whole numbers": put(np.zeros((3, 3, 3, 32), ">i8")),
    "opaque": put(np.zeros((3, 3, 3, 32), "V16")),
    "complex": put(np.zeros((3, 3, 3, 32), "c16")),
    "records": put(np.zeros((3, 3, 3, 32), [("a", "f4"), ("b", "f4")])),
    "nothing": put(h5py.Empty("f4")),
    "no dimension for the channels": put(np.zeros((3, 3), np.float32)),
    "a type": put(np.dtype("f4")),
    "a group": a_group,
    "a number for names": attribute("/", "layer_names", 5),
    "numbers for names": attribute("/", "layer_names", np.arange(4)),
    "nothing for names": attribute("/", "layer_names", h5py.Empty("S4")),
    "names that are no text": attribute("/", "layer_names", np.array([b"\xff\xfe"])),
    "a name of a layer that is not there": attribute("/", "layer_names", np.array([b"block1_conv1", b"none"])),
    "an empty name": attribute("/", "layer_names", np.array([b"block1_conv1", b""])),
    "a name that leads up": attribute("block1_conv1", "weight_names", np.array([b"../../kernel"])),
    "names of weights that are a number": attribute("block1_conv1", "weight_names", 3.5),
    "a dataset for a layer": lambda file, group: (
        file.__delitem__("block2_sepconv1"),
        file.__setitem__("block2_sepconv1", [1.0]),
    ),
    "a depthwise kernel of two dimensions": lambda file, group: (
        file.__delitem__("block2_sepconv1/block2_sepconv1/depthwise_kernel"),
        file.__setitem__("block2_sepconv1/block2_sepconv1/depthwise_kernel", np.zeros((3, 3), np.float32)),
    ),
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_odd_contents_are_one_line(change, chollets):
    refused(chollets(change), lambda path: build_backbone("xception", weights=path))


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.__setitem__("model_weights", np.zeros(3)),
        lambda file: file.__setitem__("layers/conv2d/vars/zero", np.zeros(3)),
        lambda file: file.__setitem__("layers/conv2d/vars/" + "9" * 5000, np.zeros(3)),
        lambda file: file.create_group("layers/conv2d/vars/0"),
        lambda file: file.__setitem__("layers/conv2d/vars/0", h5py.Empty("f4")),
        lambda file: file.__setitem__("vars/0", np.zeros(3, np.float32)),
        lambda file: file.__setitem__("a/a", file.create_group("a")),
    ],
    ids=[
        "weights that are no group",
        "a word for a number",
        "a long number",
        "a group",
        "nothing",
        "no layer",
        "a circle",
    ],
)
def test_odd_files_are_one_line(change, tmp_path):
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        change(file)
    refused(tmp_path / "odd.h5")


@pytest.mark.parametrize("kind", [">f4", "<f8", ">f8"])
def test_other_writings_of_the_same_numbers_are_read(kind, chollets, shared):
    def change(file, group):
        kernel = group[KERNEL][()]
        del group[KERNEL]
        group[KERNEL] = kernel.astype(kind)

    expected = read_weights(shared / "weights" / "xception_imagenet_notop.h5").tensors[KERNEL]
    assert torch.equal(read_weights(chollets(change)).tensors[KERNEL], expected)


def test_compressed_files_are_read(chollets):
    def change(file, group):
        kernel = group[KERNEL][()]
        del group[KERNEL]
        group.create_dataset(KERNEL, data=kernel, compression="gzip", chunks=True)

    build_backbone("xception", weights=chollets(change))
