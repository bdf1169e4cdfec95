"""The commands as a user types them: real processes, real data where it is present."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.training.train import TrainResult

RunTool = Callable[..., "subprocess.CompletedProcess[str]"]
CallTool = RunTool

SMALL = ("model.backbone.width=0.1", "model.backbone.weights=null", "data.num_workers=0", "trainer.progress=false")


def only_line(result: "subprocess.CompletedProcess[str]") -> str:
    """The one line of a refused request."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.fixture(scope="module")
def voc_run(shared: Path, run_tool: RunTool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paper's VOC configuration on the real images, with steps, crop, batch and width turned down."""
    run_dir = tmp_path_factory.mktemp("voc") / "run"
    result = run_tool(
        "train.py",
        "configs/deeplab_xception.yaml",
        f"data.root={shared / 'data' / 'VOCdevkit'}",
        f"run_dir={run_dir}",
        "trainer.max_steps=2",
        "--data.batch_size",
        2,
        "--data.crop_size=65",
        *SMALL,
    )
    assert result.returncode == 0, result.stderr
    assert "aeroplane" in result.stdout
    assert str(run_dir) in result.stdout
    return run_dir


@pytest.mark.slow  # two minutes; on other data tests/docs types the same commands
def test_voc_checkpoint_evaluates_and_predicts_by_itself(
    voc_run: Path, shared: Path, run_tool: RunTool, tmp_path: Path
) -> None:
    evaluated = run_tool("evaluate.py", voc_run)
    assert evaluated.returncode == 0, evaluated.stderr
    metrics = json.loads((voc_run / "evaluation" / "val" / "metrics.json").read_text())
    assert np.sum(metrics["confusion_matrix"]) > 0
    assert len(metrics["iou"]) == 21

    images = shared / "data" / "VOCdevkit" / "VOC2012" / "JPEGImages"
    predicted = run_tool("predict.py", voc_run, images, "--output", tmp_path, "--save", "mask,overlay")
    assert predicted.returncode == 0, predicted.stderr
    sources = sorted(images.glob("*.jpg"))
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [f"{source.stem}.png" for source in sources]
    assert len(sources) == 19
    for source in sources:
        mask = Image.open(tmp_path / f"{source.stem}.png")
        assert mask.mode == "P"
        assert mask.size == Image.open(source).size
        assert np.asarray(mask).max() < 21


def test_print_config_is_a_config(call_tool: CallTool, tmp_path: Path) -> None:
    shown = call_tool("train.py", "configs/unet_xception.yaml", "seed=3", "--print-config")
    assert shown.returncode == 0, shown.stderr
    (tmp_path / "shown.yaml").write_text(shown.stdout)
    again = call_tool("train.py", tmp_path / "shown.yaml", "--print-config")
    assert again.stdout == shown.stdout
    assert "seed: 3" in shown.stdout


def test_check_reads_one_batch(call_tool: CallTool, tmp_path: Path) -> None:
    result = call_tool("train.py", "configs/quickstart.yaml", "--check", f"run_dir={tmp_path / 'run'}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("ok: 400 training")
    assert not (tmp_path / "run").exists()


def test_resume_of_a_finished_run_says_so(tiny_run: TrainResult, call_tool: CallTool) -> None:
    before = (tiny_run.run_dir / "metrics.csv").read_text()
    assert "is finished" in only_line(call_tool("train.py", "--resume", tiny_run.run_dir))
    assert (tiny_run.run_dir / "metrics.csv").read_text() == before


@pytest.mark.parametrize("tool", ["train.py", "evaluate.py", "predict.py", "quickstart.py"])
def test_help_explains(tool: str, call_tool: CallTool) -> None:
    result = call_tool(tool, "--help")
    assert result.returncode == 0
    assert ("data.batch_size: integer = 16" in result.stdout) == (tool != "predict.py")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["configs/quickstart.yaml", "data.batch_sise=4"],
            "data.batch_sise: unknown key. Did you mean data.batch_size?",
        ),
        (["configs/quickstart.yaml", "model.decoder=umet"], "model.decoder: unknown name 'umet'. Did you mean unet?"),
        (["configs/quickstart.yaml", "data.batch_size=none"], "data.batch_size: should be a valid integer, not 'none'"),
        (["configs/deeplab_xception.yaml", "data.root=nowhere"], "data.root: no folder 'nowhere'"),
        (["configs/quikstart.yaml"], "configs/quikstart.yaml: no such file"),
        ([], "CONFIG: missing"),
        (["--resume", "runs/nowhere"], "--resume: no run in runs/nowhere"),
    ],
)
def test_train_refuses_in_one_line(arguments: list[str], line: str, call_tool: CallTool) -> None:
    assert only_line(call_tool("train.py", *arguments)).startswith(f"error: {line}")


@pytest.mark.parametrize("tool", ["evaluate.py", "predict.py"])
def test_missing_checkpoint_in_one_line(tool: str, call_tool: CallTool, tmp_path: Path) -> None:
    arguments = ["nowhere.ckpt", tmp_path] if tool == "predict.py" else ["nowhere.ckpt"]
    line = only_line(call_tool(tool, *arguments))
    assert line.startswith("error: nowhere.ckpt: no such checkpoint. Name a .ckpt file or a run directory")


def test_predict_reports_what_failed_and_exits_1(tiny_run: TrainResult, call_tool: CallTool, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.png").write_text("no image")
    result = call_tool("predict.py", tiny_run.run_dir, tmp_path / "in", "--output", tmp_path / "out")
    assert result.returncode == 1
    assert "1 written, 0 skipped, 1 failed" in result.stdout
    assert "failed: bad.png: " in result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_quickstart_as_promised(run_tool: RunTool, tmp_path: Path) -> None:
    result = run_tool("quickstart.py", f"run_dir={tmp_path / 'run'}", timeout=600)
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["best_val_miou"] >= 0.80
    assert len(list((tmp_path / "run" / "predictions").glob("*.png"))) == 12
    assert str(tmp_path / "run") in result.stdout
    assert "make-config YOUR_FOLDER" in result.stdout.splitlines()[-1]
