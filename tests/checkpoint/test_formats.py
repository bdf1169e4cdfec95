"""Checkpoints of every format version that there was keep loading."""

import gzip
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from segzoo.checkpoint.format import FORMAT_VERSION
from segzoo.checkpoint.read import TrainedSegmenter, load_segmenter, read_trained

FORMATS = Path(__file__).parent / "formats"


def test_there_is_a_file_of_every_version() -> None:
    names = {path.name for path in FORMATS.iterdir()}
    assert names == {f"version_{number}{kind}" for number in range(1, FORMAT_VERSION + 1) for kind in ("", ".ckpt.gz")}


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION + 1))
def test_old_checkpoints_load(version: int, tmp_path: Path) -> None:
    """Each tensor in the file is filled with a number of its own."""
    path = tmp_path / "old.ckpt"
    path.write_bytes(gzip.decompress((FORMATS / f"version_{version}.ckpt.gz").read_bytes()))
    trained = load_segmenter(path)
    assert_as_written(trained)
    found = trained.segmenter.state_dict()
    written = read_trained(path).tensors
    assert found.keys() == written.keys()
    assert all(torch.equal(found[name], written[name]) for name in found)


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION + 1))
def test_old_saved_models_load(version: int, tmp_path: Path) -> None:
    source = FORMATS / f"version_{version}"
    shutil.copy(source / "config.json", tmp_path)
    weights = gzip.decompress((source / "model.safetensors.gz").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(weights)
    trained = load_segmenter(tmp_path)
    assert_as_written(trained)
    written = load(weights)
    found = trained.segmenter.state_dict()
    assert found.keys() == written.keys()
    assert all(torch.equal(found[name], written[name]) for name in found)


def assert_as_written(trained: TrainedSegmenter) -> None:
    assert trained.config.model.decoder == "unet"
    assert trained.config.model.backbone.width == 0.05
    assert trained.labels.names[:2] == ("sky", "ground")
    assert trained.preprocessing.mean == (0.5, 0.5, 0.5)
    assert trained.description.step == 1
    found = trained.segmenter.state_dict()
    assert len({float(tensor.view(-1)[0]) for tensor in found.values()}) >= 100
    assert trained.segmenter(torch.zeros(1, 3, 33, 47)).shape == (1, trained.labels.num_classes, 33, 47)
