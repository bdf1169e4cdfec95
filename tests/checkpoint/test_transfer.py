"""Starting from another run's whole network."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from segzoo.checkpoint import transfer
from segzoo.checkpoint.read import find_checkpoint, load_segmenter, read_trained
from segzoo.config.schema import RunConfig
from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import CheckpointError, ConfigError
from segzoo.tasks.segmentation import SegmentationTask
from segzoo.training.train import TrainResult, prepare

Config = Callable[..., RunConfig]


def start(config: RunConfig, labels: LabelSpace | None = None) -> tuple[dict[str, torch.Tensor], list[str]]:
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger(transfer.__name__), "info", lambda text, *values: lines.append(text % values))
        if labels is None:
            task = prepare(transfer.with_starting_settings(config), None)[2]
        else:
            task = SegmentationTask(config, labels, 1, pretrained=False)
            network = read_trained(str(config.model.weights))
            transfer.start_from(network, task.segmenter, config, labels)
    return task.segmenter.state_dict(), lines


def test_the_whole_network_is_taken_over(tiny_run: TrainResult, tiny_config: Config) -> None:
    own = load_segmenter(tiny_run.run_dir).segmenter.state_dict()
    found, lines = start(tiny_config(f"model.weights={tiny_run.run_dir}", "model.backbone.weights=nowhere.pth"))
    assert all(torch.equal(found[name], own[name]) for name in own)
    assert lines == [f"{find_checkpoint(tiny_run.run_dir)}: {len(own)} of {len(own)} tensors loaded"]


@pytest.mark.parametrize("count", [2, 7])
def test_other_classes_get_a_fresh_head(count: int, tiny_run: TrainResult, tiny_config: Config) -> None:
    """Seven other classes too: their scores would be those of other things."""
    labels = LabelSpace.from_names([f"other {number}" for number in range(count)])
    config = tiny_config(f"model.weights={tiny_run.run_dir}")
    own = load_segmenter(tiny_run.run_dir).segmenter.state_dict()
    found, lines = start(config, labels)
    fresh = {name for name in own if own[name].shape != found[name].shape or not torch.equal(own[name], found[name])}
    assert len(fresh) == 2
    assert all(name.startswith("decoder.") and found[name].shape[0] == count for name in fresh)
    assert lines[0].endswith(f": {len(own) - 2} of {len(own)} tensors loaded")
    assert lines[1] == f"it has 7 classes and this run {count} others, so these start anew: {', '.join(sorted(fresh))}"


def test_another_network_is_refused(tiny_run: TrainResult, tiny_config: Config) -> None:
    with pytest.raises(ConfigError, match=r"^model.backbone.width: 0.2, but .* holds a backbone of width 0.1"):
        start(tiny_config(f"model.weights={tiny_run.run_dir}", "model.backbone.width=0.2"))
    with pytest.raises(CheckpointError, match=r"weights refused: \d+ missing \(decoder\..*; \d+ left over"):
        start(tiny_config(f"model.weights={tiny_run.run_dir}", "model.decoder=unet"))


def test_an_auxiliary_head_may_come_and_go(tiny_run: TrainResult, tiny_config: Config, tmp_path: Path) -> None:
    helped = tiny_config(f"model.weights={tiny_run.run_dir}", "model.auxiliary_weight=0.4")
    own = load_segmenter(tiny_run.run_dir).segmenter.state_dict()
    found, lines = start(helped)
    head = {name: value for name, value in found.items() if name.startswith("auxiliary.")}
    assert head.keys() == found.keys() - own.keys()
    assert all(torch.equal(found[name], own[name]) for name in own)
    assert lines[1:] == [f"it has no auxiliary head, so this run's starts anew: {len(head)} tensors"]

    content = torch.load(find_checkpoint(tiny_run.run_dir), weights_only=True)
    content["state_dict"] |= {f"segmenter.{name}": torch.full_like(value, 7) for name, value in head.items()}
    torch.save(content, tmp_path / "helped.ckpt")
    found, lines = start(tiny_config(f"model.weights={tmp_path / 'helped.ckpt'}"))
    assert found.keys() == own.keys()
    assert lines[1:] == [f"this run has no auxiliary head, so its {len(head)} tensors are left aside"]
    found, lines = start(tiny_config(f"model.weights={tmp_path / 'helped.ckpt'}", "model.auxiliary_weight=0.4"))
    assert all((found[name] == 7).all() for name in head)
    assert len(lines) == 1
    labels = LabelSpace.from_names(["one", "two"])
    found, lines = start(helped, labels)
    assert [line.split(",")[0] for line in lines[1:]] == [
        "it has 7 classes and this run 2 others",
        "it has no auxiliary head",
    ]


def test_preprocessing_comes_along(tiny_run: TrainResult, tiny_config: Config, tmp_path: Path) -> None:
    content = torch.load(find_checkpoint(tiny_run.run_dir), weights_only=True)
    content["segzoo"]["config"]["data"]["preprocessing"]["mean"] = [0.1, 0.2, 0.3]
    torch.save(content, tmp_path / "other.ckpt")
    completed = transfer.with_starting_settings(tiny_config(f"model.weights={tmp_path / 'other.ckpt'}"))
    assert completed.data.preprocessing.mean == (0.1, 0.2, 0.3)
    assert completed.model.backbone.weights is None


@pytest.mark.parametrize("environment", ["0", "1"])
def test_lightnings_instantiator_is_refused_everywhere(
    environment: str, tiny_run: TrainResult, tiny_config: Config, call_tool, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", environment)
    content = torch.load(find_checkpoint(tiny_run.run_dir), weights_only=True)
    content["hyper_parameters"] = {"_instantiator": "os.system", "command": f"touch {tmp_path / 'harm'}"}
    run_dir = tmp_path / "run"
    (run_dir / "checkpoints").mkdir(parents=True)
    (run_dir / "config.yaml").write_text((tiny_run.run_dir / "config.yaml").read_text())
    evil = run_dir / "checkpoints" / "last.ckpt"
    torch.save(content, evil)
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text(json.dumps(tiny_config().model_dump(mode="json", exclude_unset=True)))
    for tool, *arguments in (
        ("train.py", "--resume", run_dir),
        ("train.py", tiny, f"model.weights={evil}", f"run_dir={tmp_path / 'new'}"),
        ("train.py", tiny, f"model.backbone.weights={evil}", f"run_dir={tmp_path / 'new'}"),
        ("evaluate.py", evil),
        ("predict.py", evil, tmp_path, "--output", tmp_path / "masks"),
        ("export.py", evil, "--format", "onnx", "--output", tmp_path / "model.onnx"),
    ):
        ended = call_tool(tool, *arguments)
        assert ended.returncode == 1, ended.stderr
        assert "Nothing was executed." in ended.stderr
        assert "Traceback" not in ended.stderr
    assert not (tmp_path / "harm").exists()
    assert logging.getLogger("segzoo").level != logging.ERROR


def test_damaged_bytes_are_noticed(tiny_run: TrainResult, tmp_path: Path) -> None:
    content = bytearray(find_checkpoint(tiny_run.run_dir).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "damaged.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged on the disk: .* is not what was written"):
        load_segmenter(tmp_path / "damaged.ckpt")
