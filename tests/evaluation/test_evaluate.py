import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from sklearn.metrics import confusion_matrix, jaccard_score

from segzoo.config.evaluation import TILE_OVERLAP
from segzoo.config.schema import RunConfig
from segzoo.data.datasets.spec import build_dataset
from segzoo.errors import ConfigError
from segzoo.evaluation.compare import PROTOCOL, compare
from segzoo.evaluation.evaluate import evaluate
from segzoo.evaluation.evaluator import changed_config
from segzoo.evaluation.mask_evaluator import CHANGEABLE
from segzoo.evaluation.results import Evaluation
from segzoo.inference.predictor import Predictor
from segzoo.training.train import TrainResult


@pytest.fixture(scope="module")
def measured(tiny_run: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return evaluate(tiny_run.run_dir, output=tmp_path_factory.mktemp("measured"), boundary=True)


def test_equals_the_validation_and_scikit_learn(tiny_run: TrainResult, tmp_path: Path) -> None:
    result = evaluate(tiny_run.run_dir, output=tmp_path)
    assert result.scores.miou == pytest.approx(tiny_run.summary["best_val_miou"], abs=1e-6)

    predictor = Predictor(tiny_run.run_dir)
    dataset = build_dataset(predictor.source.config.data, "val")
    samples = [dataset[index] for index in range(len(dataset))]
    truth = np.concatenate([sample.mask.ravel() for sample in samples])
    predicted = np.concatenate([predictor(sample.image).mask.ravel() for sample in samples])
    kept = truth != 255
    expected = confusion_matrix(truth[kept], predicted[kept], labels=range(dataset.labels.num_classes))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["confusion_matrix"] == expected.tolist()
    assert metrics["iou"].keys() == set(dataset.labels.names)
    assert metrics["pixel_accuracy"] == pytest.approx(np.trace(expected) / expected.sum())


@pytest.mark.parametrize(("processes", "batch_size"), [(1, 3), pytest.param(2, 1, marks=pytest.mark.slow)])
def test_neither_batch_size_nor_processes_change_a_number(
    tiny_run: TrainResult, measured: Evaluation, tmp_path: Path, processes: int, batch_size: int
) -> None:
    evaluate(
        tiny_run.run_dir,
        [f"evaluation.batch_size={batch_size}"],
        output=tmp_path,
        processes=processes,
        boundary=True,
    )
    for name in ("metrics.json", "per_image.csv"):
        assert (tmp_path / name).read_bytes() == (measured.output / name).read_bytes()


@pytest.fixture
def mixed_sizes(measured: Evaluation, tmp_path: Path) -> list[str]:
    """Changes to the tiny run: it is measured on a folder whose images have several sizes, one with an odd name."""
    scenes = build_dataset(measured.config.data, "val")
    for number, (height, width) in enumerate([(48, 64), (32, 40), (48, 64), (32, 40), (48, 56)]):
        sample = scenes[number]
        stem = os.fsdecode(b"\xff") if number == 3 else str(number)
        for kind, pixels in (("images", sample.image), ("masks", sample.mask)):
            path = tmp_path / "folder" / "val" / kind / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[:height, :width]).save(path)
    names = json.dumps(list(measured.labels.names))
    return ["data.name=folder", f"data.root={tmp_path / 'folder'}", f"data.classes={names}"]


def test_order_is_the_splits_whatever_the_sizes(tiny_run: TrainResult, mixed_sizes: list[str], tmp_path: Path) -> None:
    one, shared_out = tmp_path / "one", tmp_path / "shared_out"
    result = evaluate(tiny_run.run_dir, mixed_sizes, output=one, report=True)
    evaluate(tiny_run.run_dir, [*mixed_sizes, "evaluation.batch_size=3"], output=shared_out, processes=2)
    assert [image.index for image in result.per_image] == list(range(5))
    assert result.per_image[4].id.endswith(r"\xff")
    for name in ("metrics.json", "per_image.csv"):
        assert (one / name).read_bytes() == (shared_out / name).read_bytes()
    assert compare([one, shared_out], images=5).differences[0].miou == 0
    assert (one / "report.html").exists()
    evaluate(tiny_run.run_dir, mixed_sizes, output=one, overwrite=True)
    assert not (one / "report.html").exists()  # it might show other numbers


@pytest.mark.slow
def test_torchrun_gives_the_same_files(tiny_run: TrainResult, measured: Evaluation, repository: Path, tmp_path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    tool = [repository / "tools" / "evaluate.py", tiny_run.run_dir, "--boundary", "--no-report", "--output", tmp_path]
    done = subprocess.run([*command, *map(str, tool)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("5 images") == 1
    for name in ("metrics.json", "per_image.csv"):
        assert (tmp_path / name).read_bytes() == (measured.output / name).read_bytes()


def test_files_say_what_was_measured(measured: Evaluation) -> None:
    metrics = json.loads((measured.output / "metrics.json").read_text())
    names = list(measured.labels.names)
    for key in ("iou", "recall", "precision", "dice"):
        assert list(metrics[key]) == names
    assert list(metrics["boundary"]["iou"]) == list(metrics["boundary"]["f_score"]) == names
    assert metrics["miou_interval"]["low"] <= metrics["miou"] <= metrics["miou_interval"]["high"]
    protocol = [metrics[key] for key in PROTOCOL]
    assert protocol == ["trained", 16, "torch", "fp32", None, None, None]
    with (measured.output / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [image.id for image in measured.per_image]
    assert [float(row["miou"]) for row in rows] == [image.miou for image in measured.per_image]
    assert [image.miou for image in measured.worst(2)] == sorted(float(row["miou"]) for row in rows)[:2]
    printed = Console(width=120, record=True, file=io.StringIO())
    printed.print(*measured.tables(worst=2))
    text = printed.export_text()
    for expected in (*names, f"{100 * measured.scores.miou:.1f} %", "boundary F", measured.worst(1)[0].id):
        assert expected in text


def test_images_are_judged_alone(tiny_run: TrainResult, measured: Evaluation) -> None:
    predictor = Predictor(tiny_run.run_dir)
    sample = build_dataset(predictor.source.config.data, "val")[2]
    kept = sample.mask != 255
    truth, predicted = sample.mask[kept], predictor(sample.image).mask[kept]
    image = measured.per_image[2]
    present = np.union1d(truth, predicted)
    assert image.miou == pytest.approx(jaccard_score(truth, predicted, labels=present, average="macro"))
    assert image.pixel_accuracy == pytest.approx((truth == predicted).mean())
    assert (image.id, image.pixels) == (sample.id, kept.sum())
    assert [label for label, value in enumerate(image.iou) if value is not None] == present.tolist()


def test_one_scale_and_one_tile_are_the_plain_image(
    tiny_run: TrainResult, measured: Evaluation, tmp_path: Path
) -> None:
    once = ["evaluation.tta=true", "evaluation.tta_scales=[1.0]", "evaluation.tta_flip=false", "evaluation.tile=256"]
    result = evaluate(tiny_run.run_dir, once, output=tmp_path)
    assert result.matrix.tolist() == measured.matrix.tolist()
    protocol = result.protocol
    assert (protocol.tta, protocol.tile, protocol.tile_overlap) == ("scales 1", 256, TILE_OVERLAP)


def test_augmentation_reaches_the_network(tiny_run: TrainResult, measured: Evaluation, tmp_path: Path) -> None:
    result = evaluate(tiny_run.run_dir, ["evaluation.tta=true", "evaluation.tta_scales=[0.5]"], output=tmp_path)
    assert result.matrix.tolist() != measured.matrix.tolist()
    assert result.protocol.tta == "scales 0.5 and mirrored"


def test_raw_weights(tiny_run: TrainResult, measured: Evaluation, tmp_path: Path) -> None:
    content = torch.load(tiny_run.run_dir / "checkpoints" / "best.ckpt", weights_only=True)
    content["segzoo"]["config"]["optimizer"]["ema_decay"] = 0.9
    content["training_state_dict"] = {name: torch.zeros_like(value) for name, value in content["state_dict"].items()}
    torch.save(content, tmp_path / "averaged.ckpt")
    averaged = evaluate(tmp_path / "averaged.ckpt", output=tmp_path)
    raw = evaluate(tmp_path / "averaged.ckpt", output=tmp_path / "raw", averaged=False)
    assert averaged.matrix.tolist() == measured.matrix.tolist()
    assert raw.matrix[:, 1:].sum() == 0  # all logits are equal
    assert (averaged.protocol.weights, raw.protocol.weights) == ("averaged", "raw")


def test_split_and_default_output(tiny_run: TrainResult, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(tiny_run.run_dir, run_dir)
    result = evaluate(run_dir, split="train")
    assert result.images == 12
    assert result.output == run_dir / "evaluation" / "train"
    assert json.loads((result.output / "metrics.json").read_text())["split"] == "train"


def test_wrong_requests(
    tiny_run: TrainResult, tiny_config: Callable[..., RunConfig], shared: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"model.decoder=unet: only data\.\*, evaluation\.\* and model\.eval_"):
        evaluate(tiny_run.run_dir, ["model.decoder=unet"], output=tmp_path)
    with pytest.raises(ConfigError, match=r"data\.preprocessing: belongs to the trained network"):
        evaluate(tiny_run.run_dir, ["data.preprocessing.mean=[0, 0, 0]"], output=tmp_path)
    arrays = tiny_config("data.name=folder", "data.root=arrays", "data.value_range=[0, 9]")
    with pytest.raises(ConfigError, match=r"data\.value_range: belongs to the trained network"):
        changed_config(arrays, ["data.value_range=[0, 5]"], CHANGEABLE)
    with pytest.raises(ConfigError, match="--processes: 0"):
        evaluate(tiny_run.run_dir, output=tmp_path, processes=0)
    voc = ["data.name=voc", f"data.root={shared / 'data' / 'VOCdevkit'}"]
    with pytest.raises(ConfigError, match=r"no public masks.* segzoo predict"):
        evaluate(tiny_run.run_dir, voc, split="test", output=tmp_path)
    with pytest.raises(ConfigError, match="no split 'tset'"):
        evaluate(tiny_run.run_dir, split="tset", output=tmp_path)
    with pytest.raises(ConfigError, match="Name the data set it was trained on"):
        evaluate(tiny_run.run_dir, ["data.name=camvid", f"data.root={shared / 'data' / 'camvid'}"], output=tmp_path)


def test_results_have_a_place_before_anything_is_computed(
    tiny_run: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segzoo.evaluation.evaluate.measure", None)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"--output: .*file: cannot be written to \(File exists\)"):
        evaluate(tiny_run.run_dir, output=tmp_path / "file")


def test_classes_of_another_kind_are_refused(tiny_run: TrainResult, multi_label_folder: Path, tmp_path: Path) -> None:
    folder = ["data.name=folder", f"data.root={multi_label_folder}", "data.folder.multi_label=true"]
    with pytest.raises(ConfigError, match="differ in whether a pixel may have several classes"):
        evaluate(tiny_run.run_dir, folder, output=tmp_path)


def test_a_submission_measures_nothing(tiny_run: TrainResult, call_tool: Callable[..., CompletedProcess[str]]) -> None:
    done = call_tool("evaluate.py", tiny_run.run_dir, "--submission", "voc", "--boundary")
    assert done.returncode == 2
    assert "--submission: measures nothing. Leave --boundary" in done.stderr
