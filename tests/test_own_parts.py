"""Parts of somebody's own, in a file outside the package, in every command: like ours, and never unasked."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import cohen_kappa_score

OWN = (
    "data.name=squares",
    "data.squares.train_images=6",
    "model.decoder=head",
    "model.head.channels=6",
    "loss.name=power",
    "loss.power.power=1.5",
)
SMALL = ("model.output_stride=32", "model.backbone.width=0.1", "data.crop_size=64", "data.batch_size=4")
SHORT = ("trainer.max_steps=2", "trainer.val_every_steps=2", "trainer.progress=false")


@pytest.fixture
def command(call_tool, own_parts, repository, tmp_path):
    """A command with the plug-in, in this process; it has to end with this status."""
    file = shutil.copy(repository / "tests" / "plugins" / "my_parts.py", tmp_path)

    def call(tool, *words, status=0):
        done = call_tool(tool, *words, "--plugin", file)
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    return call


@pytest.fixture
def run(command, tmp_path):
    command("train.py", "configs/quickstart.yaml", *OWN, *SMALL, *SHORT, f"run_dir={tmp_path / 'run'}")
    return tmp_path / "run"


def test_train_evaluate_predict_export(command, run, tmp_path):
    config = (run / "config.yaml").read_text()
    for line in ("head:\n    channels: 6\n    sharp: false\n", "power:\n    power: 1.5\n", "my_parts.py]\n"):
        assert line in config
    assert "Cohen's kappa" in command("evaluate.py", run)
    metrics = json.loads((run / "evaluation" / "val" / "metrics.json").read_text())
    assert metrics["iou"].keys() == {"ground", "square"}
    counts = np.array(metrics["confusion_matrix"])
    truth, decision = (places.repeat(counts.ravel()) for places in np.indices(counts.shape).reshape(2, -1))
    assert metrics["kappa"] == pytest.approx(cohen_kappa_score(truth, decision), nan_ok=True)
    assert "kappa" in (run / "evaluation" / "val" / "report.html").read_text()
    shutil.copytree(run, tmp_path / "again")
    assert "Cohen's kappa" in command("compare.py", run, tmp_path / "again")
    (tmp_path / "images").mkdir()
    Image.fromarray(np.full((40, 50, 3), 200, np.uint8)).save(tmp_path / "images" / "a.png")
    command("predict.py", run, tmp_path / "images", "--output", tmp_path / "masks")
    assert Image.open(tmp_path / "masks" / "a.png").size == (50, 40)
    command("export.py", run, "--format", "torch", "--output", tmp_path / "own.pt")
    assert torch.jit.load(tmp_path / "own.pt")(torch.zeros(1, 3, 64, 64)).shape == (1, 2, 64, 64)
    assert "head" in command("model.py", run / "config.yaml")
    assert "no problem found" in command("check_data.py", run / "config.yaml", "--output", tmp_path / "check")


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("model.head.chanels=3", "model.head.chanels: unknown key. Did you mean model.head.channels?"),
        ("loss.power.power=strong", "loss.power.power: should be a valid number, not 'strong'"),
        ("loss.pover.power=1", "loss.pover: unknown key. Did you mean loss.power?"),
        ("model.decoder=haed", "model.decoder: unknown name 'haed'. Did you mean head?"),
        ("data.name=square", "data.name: unknown name 'square'. Did you mean squares?"),
    ],
)
def test_a_wrong_key_or_name_has_a_suggestion(command, wrong, line):
    words = ("configs/quickstart.yaml", *OWN, *SMALL, *SHORT, wrong)
    assert command("train.py", *words, status=2) == f"error: {line}\n"


def test_fresh_processes(run, tmp_path, repository):
    """Without the option a checkpoint imports nothing, and says what would; with it, so do the processes started."""

    def segzoo(*words):
        call = [sys.executable, "-m", "segzoo", *map(str, words)]
        return subprocess.run(
            call, cwd=tmp_path, env={"PYTHONPATH": str(repository)}, capture_output=True, text=True, check=False
        )

    refused = segzoo("predict", run, tmp_path / "images")
    assert refused.returncode == 1
    assert f"best.ckpt: needs {tmp_path / 'my_parts.py'}, and code is never run" in refused.stderr
    assert f"--plugin {tmp_path / 'my_parts.py'}, or in Python" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    resumed = segzoo("train", "--resume", run)
    assert (resumed.returncode, resumed.stderr.count("\n")) == (2, 1)
    assert "code is never run because a checkpoint or a run asks for it" in resumed.stderr
    shared = segzoo("evaluate", run, "--plugin", "my_parts.py", "--processes", 2, "--no-report")
    assert shared.returncode == 0, shared.stderr
