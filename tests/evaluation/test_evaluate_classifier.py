"""A classifier measured: metrics.json, per_image.csv, the page."""

import csv
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics as sklearn_metrics

from segzoo.checkpoint.read import load_classifier
from segzoo.checkpoint.saved import save_model
from segzoo.data.datasets.spec import build_classification_dataset
from segzoo.data.transforms.classification import CenterView
from segzoo.data.transforms.preprocessing import normalize
from segzoo.errors import ConfigError
from segzoo.evaluation.evaluate import evaluate_classifier


@pytest.fixture(scope="module")
def run_dir(tiny_classifier_run):
    return tiny_classifier_run.run_dir


@pytest.fixture(scope="module")
def evaluation(run_dir, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluation")
    return evaluate_classifier(run_dir, output=output, report=True, command="the command"), output


@pytest.fixture(scope="module")
def chances(run_dir):
    """Truth and probabilities, from the network and the images alone."""
    loaded = load_classifier(run_dir)
    dataset = build_classification_dataset(loaded.config.data, "val")
    view = CenterView(loaded.config.data)
    with torch.inference_mode():
        images = (view(dataset.read_image(index))[None] for index in range(len(dataset)))
        logits = torch.cat([loaded.classifier(normalize(image, loaded.preprocessing)) for image in images])
    return np.array([k for (k,) in dataset.classes]), logits.double().softmax(1).numpy()


def test_map_at_100_takes_the_weights_that_the_configuration_gives(run_dir, chances, tmp_path):
    truth, shares = chances
    ranks = np.array([1 + int((row > row[true]).sum()) for row, true in zip(shares, truth, strict=True)])
    of_class = np.array([np.mean(1 / ranks[truth == k]) for k in range(3)])
    weights = [1, 0.5, 4]
    evaluate_classifier(run_dir, [f"evaluation.class_weights={weights}"], output=tmp_path, report=False)
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["map_at_100"] == pytest.approx(np.average(of_class, weights=weights))
    assert found["class_weights"] == weights
    with pytest.raises(ConfigError, match=r"evaluation.class_weights: 2 weights for 3 classes\. Give one for each"):
        evaluate_classifier(run_dir, ["evaluation.class_weights=[1, 2]"], output=tmp_path, report=False)


def test_numbers_are_scikit_learns(evaluation, chances):
    found = json.loads((evaluation[1] / "metrics.json").read_text())
    truth, shares = chances
    predicted = shares.argmax(1)
    names = list(evaluation[0].labels.names)
    assert found["top1"] == pytest.approx(np.mean(truth == predicted))
    assert found["top5"] is None
    expected = [sklearn_metrics.average_precision_score(truth == k, shares[:, k]) for k in range(3)]
    assert [found["ap"][name] for name in names] == pytest.approx(expected)
    assert found["map"] == pytest.approx(np.mean(expected))
    ranks = [1 + int((row > row[true]).sum()) for row, true in zip(shares, truth, strict=True)]
    assert found["map_at_100"] == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert found["confusion_matrix"] == sklearn_metrics.confusion_matrix(truth, predicted, labels=range(3)).tolist()
    recall = sklearn_metrics.recall_score(truth, predicted, average=None)
    assert [found["recall"][name] for name in names] == pytest.approx(recall)
    assert found["mean_accuracy"] == pytest.approx(recall.mean())
    assert (found["images"], found["split"], found["dataset"], found["weights"]) == (
        7,
        "val",
        "image_folder",
        "trained",
    )
    assert (found["image_size"], found["center_crop"]) == ([40, 48], 0.875)


def test_every_image_has_a_row(evaluation, chances):
    with (evaluation[1] / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = evaluation[0].labels.names
    for index, (row, true, shares) in enumerate(zip(rows, *chances, strict=True)):
        assert row["index"] == str(index)
        assert row["id"].startswith(row["truth"])
        assert (row["truth"], row["predicted"]) == (names[true], names[shares.argmax()])
        assert float(row["probability"]) == pytest.approx(shares.max(), abs=1e-6)
        assert float(row["truth_probability"]) == pytest.approx(shares[true], abs=1e-6)
        assert int(row["rank"]) == 1 + int((shares > shares[true]).sum())
    worst = evaluation[0].worst(3)
    own = [shares[true] for true, shares in zip(*chances, strict=True)]
    assert [image.index for image in worst] == np.argsort(own)[:3].tolist()


def test_validation_while_training_says_the_same(evaluation, tiny_classifier_run):
    assert tiny_classifier_run.summary["best_val_top1"] == pytest.approx(evaluation[0].scores["top1"])


@pytest.mark.parametrize("size", [1, 3, 7])
def test_the_batch_size_changes_nothing(evaluation, run_dir, tmp_path, size):
    found = evaluate_classifier(run_dir, [f"evaluation.batch_size={size}"], output=tmp_path)
    for key in ("top1", "map", "map_at_100"):
        assert found.scores[key] == pytest.approx(evaluation[0].scores[key], abs=1e-9)
    assert torch.equal(found.matrix, evaluation[0].matrix)


def measure_together(rank, run_dir, folder):
    torch.set_num_threads(1)  # OpenMP's pool does not survive a fork
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = evaluate_classifier(run_dir, ["evaluation.batch_size=2"], output=f"{folder}/out")
    torch.save([found.scores["map"], [image.truth_probability for image in found.per_image]], f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


def test_two_processes_share_the_images_and_say_the_same(evaluation, run_dir, tmp_path):
    torch.multiprocessing.start_processes(measure_together, (run_dir, str(tmp_path)), nprocs=2, start_method="fork")
    for rank in range(2):
        mean, chances = torch.load(tmp_path / str(rank))
        assert mean == pytest.approx(evaluation[0].scores["map"], abs=1e-9)
        assert chances == pytest.approx([image.truth_probability for image in evaluation[0].per_image], abs=1e-6)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["images"] == 7


def test_the_page_needs_nothing_else_and_shows_the_numbers(evaluation):
    page = (evaluation[1] / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "pixels" not in re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["matrix"] == evaluation[0].matrix.tolist()
    assert data["unit"] == "images"
    assert [entry["name"] for entry in data["classes"]] == ["blue", "green", "red"]
    assert page.count("data:image/webp") == 7
    assert "validation top-1" in page
    assert "the command" in page
    with Image.open(evaluation[1] / "plots" / "confusion.png") as plot:
        assert plot.format == "PNG"


def test_wrong_requests(run_dir, tmp_path, class_folder):
    for overrides, message in (
        (["model.dropout=0.1"], r"model.dropout=0.1: only data.\* and evaluation.\* can change"),
        (["data.preprocessing.mean=[0.1,0.1,0.1]"], "data.preprocessing: belongs to the trained network"),
        (["data.classes=[red,blue,green]"], "the 3 classes red, blue, green, and .* was trained on"),
        (["data.val_split=gone"], "no split 'gone'"),
        (["data.nmae=csv"], "Did you mean data.name"),
    ):
        with pytest.raises(ConfigError, match=message):
            evaluate_classifier(run_dir, overrides, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_compare_says_that_it_takes_none(call_tool, evaluation):
    done = call_tool("compare.py", evaluation[1], evaluation[1])
    assert done.returncode == 2
    assert done.stderr == f"error: {evaluation[1]}: an evaluation of a classifier; compare takes those of segmenters.\n"


def test_the_tool(call_tool, run_dir, tmp_path, evaluation):
    done = call_tool("evaluate.py", run_dir, "--output", tmp_path, "--no-report", "evaluation.batch_size=2")
    assert done.returncode == 0, done.stderr
    assert "top-1" in done.stdout
    assert "worst images" in done.stdout
    assert f"7 images; {tmp_path / 'metrics.json'}" in done.stdout.replace("\n", "")
    assert not (tmp_path / "report.html").exists()
    refused = call_tool("evaluate.py", run_dir, "--tta", "--boundary", "--tile", "64")
    assert refused.returncode == 2
    assert refused.stderr.count("for segmenters only, and this is a classifier") == 3
    with pytest.raises(ConfigError, match="--boundary: for segmenters only"):
        evaluate_classifier(run_dir, output=tmp_path / "refused", boundary=True)


def test_processes_of_its_own_say_the_same(evaluation, run_dir, call_tool, tmp_path):
    """Each has a network of its own; batches are the same, so only torch's threads can move a rounding."""
    words = ["--output", tmp_path / "out", "--processes", "2", "evaluation.batch_size=2"]
    done = call_tool("evaluate.py", run_dir, *words)
    assert done.returncode == 0, done.stderr
    alone = evaluate_classifier(run_dir, ["evaluation.batch_size=2"], output=tmp_path / "alone")
    shared, own = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("out", "alone"))
    assert shared == own
    for name in ("index", "id", "truth", "predicted", "rank"):
        assert column(tmp_path / "out", name) == column(tmp_path / "alone", name)
    for found, image in zip(column(tmp_path / "out", "probability"), alone.per_image, strict=True):
        assert float(found) == pytest.approx(image.probability, abs=1e-6)
    assert (tmp_path / "out" / "report.html").is_file()


def column(folder, name):
    with (folder / "per_image.csv").open(newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def test_another_engine_and_a_saved_folder(evaluation, run_dir, tmp_path):
    folder = save_model(run_dir, tmp_path / "model")
    data = [f"data.root={evaluation[0].config.data.root}"]  # of which the folder has the last part
    found = evaluate_classifier(folder, data, output=tmp_path / "out", engine="onnxruntime", report=True)
    assert torch.equal(found.matrix, evaluation[0].matrix)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["engine"] == "onnxruntime, fp32"
    assert "onnxruntime, fp32" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "engine" not in json.loads((evaluation[1] / "metrics.json").read_text())


def test_several_classes_an_image(tiny_classifier_config, class_folder, tmp_path):
    from segzoo.training.train import train

    lines = [
        "file,label",
        "train/red/0.png,red;warm",
        "train/blue/0.png,",
        "train/green/0.png,green",
        "train/red/1.png,warm",
    ]
    root = tmp_path / "table"
    root.mkdir()
    (root / "train").symlink_to(class_folder / "train")
    for split in ("train", "val"):
        (root / f"{split}.csv").write_text("\n".join(lines))
    changes = [f"run_dir={tmp_path / 'run'}", "data.name=csv", f"data.root={root}", "data.csv.multi_label=true"]
    train(tiny_classifier_config(*changes, "trainer.max_steps=2", "trainer.val_every_steps=2"))
    found = evaluate_classifier(tmp_path / "run", output=tmp_path / "out", report=True)
    assert found.labels.multi_label
    assert found.matrix.shape == (3, 2, 2)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert 0 < metrics["map"] <= 1
    with (tmp_path / "out" / "per_image.csv").open(newline="") as file:
        truths = [(row["truth"], row["rank"] == "") for row in csv.DictReader(file)]
    assert truths == [("red;warm", False), ("", True), ("green", False), ("warm", False)]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "An image may have several classes" in page
    assert not (tmp_path / "out" / "plots").exists()
