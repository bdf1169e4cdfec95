"""Files made to harm: each is refused in one line, without the memory or the time that it asks for."""

import json
import shutil
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from laboratory.benchmarks.memory import forget_peak, peak_bytes, resident_bytes
from segzoo.backbones import build_backbone
from segzoo.backbones.weights.recognise import read_weights
from segzoo.checkpoint.read import find_checkpoint, load_segmenter
from segzoo.errors import CheckpointError
from segzoo.training.train import TrainResult

HUGE = 10**12


@pytest.fixture
def good(tiny_run: TrainResult) -> Path:
    return find_checkpoint(tiny_run.run_dir)


@pytest.fixture
def content(good: Path) -> dict[str, Any]:
    return torch.load(good, weights_only=True)


@pytest.fixture(autouse=True)
def _no_memory_is_taken():
    if sys.platform != "linux":  # elsewhere the system does not say
        yield
        return
    forget_peak()  # of earlier tests, behind which much could hide
    before = resident_bytes()
    yield
    assert peak_bytes() - before < 600_000_000


def problem_of(path: Path, read=load_segmenter) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(path)
    (problem,) = caught.value.problems
    assert "\n" not in problem
    assert problem.startswith(str(path))
    return problem


def test_archives_that_unpack_to_more_than_they_are(good: Path, tmp_path: Path) -> None:
    """Compressed, and as one record under many names."""
    packed, folded = tmp_path / "packed.ckpt", tmp_path / "folded.ckpt"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
        target.writestr(f"{name.split('/')[0]}/data/bomb", bytes(2**26))
    assert packed.stat().st_size < 2**25
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(folded, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
        largest = max(target.infolist(), key=lambda record: record.file_size)
        for number in range(100):
            twin = zipfile.ZipInfo(f"{largest.filename}{number}")
            twin.header_offset, twin.CRC = largest.header_offset, largest.CRC
            twin.file_size = twin.compress_size = largest.file_size
            target.filelist.append(twin)
            target.NameToInfo[twin.filename] = twin
        target._didModify = True
    for path in (packed, folded):
        for read in (load_segmenter, read_weights):
            assert "it would unpack to more than its own size" in problem_of(path, read)


@pytest.mark.parametrize("key", ["state_dict", "training_state_dict"])
@pytest.mark.parametrize(
    "claim",
    [torch.zeros(1).expand(HUGE), torch.empty(HUGE, device="meta")],
    ids=["one number over and over", "numbers that are nowhere"],
)
def test_tensors_that_claim_more_than_the_file_has(
    key: str, claim: torch.Tensor, content: dict[str, Any], tmp_path: Path
) -> None:
    name = next(name for name in content["state_dict"] if name.endswith("weight"))
    changed = content | {key: content["state_dict"] | {name: claim}}
    torch.save(changed, tmp_path / "claim.ckpt")
    assert "its tensors claim more numbers than the file has" in problem_of(tmp_path / "claim.ckpt")


@pytest.mark.parametrize("state", [None, [], {"a": 1}])
@pytest.mark.parametrize("key", ["state_dict", "training_state_dict"])
def test_states_that_are_none(key: str, state: object, content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content | {key: state}, tmp_path / "none.ckpt")
    assert "not a segzoo checkpoint" in problem_of(tmp_path / "none.ckpt")


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of such tensors
@pytest.mark.parametrize("kind", ["meta", "sparse", "quantized", "float8", "complex", "int8", "bool"])
def test_tensors_of_other_kinds(kind: str, content: dict[str, Any], tmp_path: Path) -> None:
    name = next(name for name in content["state_dict"] if name.endswith("bias"))
    plain = content["state_dict"][name]
    kinds = {
        "meta": lambda: plain.to("meta"),
        "sparse": lambda: plain.to_sparse(),
        "quantized": lambda: torch.quantize_per_tensor(plain, 1.0, 0, torch.quint8),
        "float8": lambda: plain.to(torch.float8_e4m3fn),
        "complex": lambda: plain.to(torch.complex64),
        "int8": lambda: plain.to(torch.int8),
        "bool": lambda: plain.to(torch.bool),
    }
    torch.save(content | {"state_dict": content["state_dict"] | {name: kinds[kind]()}}, tmp_path / "kind.ckpt")
    assert "a tensor is of a type that no weights have" in problem_of(tmp_path / "kind.ckpt")


GIANTS = [
    ("deeplab", "atrous_rates", list(range(1, 200_000))),
    ("deeplab", "atrous_rates", [10**9]),
    ("deeplab", "decoder_convolutions", 10**9),
    ("deeplab", "low_level_channels", 2**62),
    ("backbone", "width", 1e6),
    ("backbone", "width", 1e300),
    ("backbone", "depth_multiplier", 10**30),
    ("backbone", "channel_segments", 10**30),
]


@pytest.mark.parametrize(("section", "key", "value"), GIANTS, ids=lambda value: str(value)[:30])
def test_networks_of_no_size(
    section: str, key: str, value: object, content: dict[str, Any], tmp_path: Path, saved: Path
) -> None:
    """Each number of a description has a range, whichever file it comes in."""
    model = content["segzoo"]["config"]["model"]
    model["decoder"] = "deeplabv3plus"
    model[section][key] = value
    torch.save(content, tmp_path / "giant.ckpt")
    assert f"does not fit format 1 (config.model.{section}.{key}" in problem_of(tmp_path / "giant.ckpt")
    folder = shutil.copytree(saved, tmp_path / "giant")
    described = json.loads((folder / "config.json").read_text())
    described["config"]["model"] = model
    (folder / "config.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match="does not fit format 1"):
        load_segmenter(folder)


@pytest.mark.parametrize("where", ["versions", "metrics"])
def test_lists_of_lists_are_not_written_out(where: str, content: dict[str, Any], tmp_path: Path) -> None:
    """Thirty lists that hold each other twice take no room in a file, and a gigabyte as text."""
    nested: list[Any] = []
    for _ in range(30):
        nested = [nested, nested]
    content["segzoo"][where] = {"torch": nested}
    torch.save(content, tmp_path / "nested.ckpt")
    assert "does not fit format 1" in problem_of(tmp_path / "nested.ckpt")


@pytest.mark.parametrize(
    ("section", "key", "value"), [("backbone", "width", 8.0), ("deeplabv3plus_smp", "channels", 4096)]
)
def test_networks_beyond_all_memory(
    section: str, key: str, value: float, content: dict[str, Any], tmp_path: Path, saved: Path
) -> None:
    """They are compared with the weights before they are built."""
    model = content["segzoo"]["config"]["model"]
    model[section][key] = value
    torch.save(content, tmp_path / "wide.ckpt")
    assert "of another shape" in problem_of(tmp_path / "wide.ckpt")
    folder = shutil.copytree(saved, tmp_path / "wide")
    described = json.loads((folder / "config.json").read_text())
    described["config"]["model"] = model
    (folder / "config.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match="of another shape"):
        load_segmenter(folder)


def test_long_headers_of_safetensors(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "long")
    header = json.dumps({"__metadata__": {"long": " " * 2**24}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="no safetensors"):
        load_segmenter(folder)
    with pytest.raises(CheckpointError, match="not recognised as weights"):
        build_backbone("xception", width=0.1, weights=folder)


def test_any_damage_is_one_line(good: Path, saved: Path, tmp_path: Path) -> None:
    """Bytes replaced at random, most of them where the structure is: refused, or read as what was written."""
    generator = np.random.default_rng(0)
    folder = shutil.copytree(saved, tmp_path / "folder")
    raw = good.read_bytes()
    with zipfile.ZipFile(good) as archive:
        record = next(item for item in archive.infolist() if item.filename.endswith("data.pkl"))
    pickled = range(record.header_offset, record.header_offset + record.file_size)
    header = range(8 + struct.unpack("<Q", (saved / "model.safetensors").read_bytes()[:8])[0])
    refused = []
    for path, source, where in (
        (tmp_path / "damaged.ckpt", raw, pickled),
        (tmp_path / "damaged.ckpt", raw, range(len(raw) - 20_000, len(raw))),
        (folder / "model.safetensors", (saved / "model.safetensors").read_bytes(), header),
    ):
        for _ in range(25):
            content = bytearray(source)
            for place in generator.integers(where.start, where.stop, 3):
                content[place] = generator.integers(256)
            path.write_bytes(content)
            try:
                read_weights(path)
            except CheckpointError as error:
                refused.append(error.problems)
    assert len(refused) > 50
    assert all(len(problems) == 1 and "\n" not in problems[0] for problems in refused)
