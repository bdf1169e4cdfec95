"""A classifier's checkpoint and a folder of images: predictions.csv, activation maps, faults."""

import copy
import csv
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from inference.mixed_files import mixed_folder
from PIL import Image

from segzoo.checkpoint.read import load_classifier
from segzoo.checkpoint.saved import save_model
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.transforms.classification import Window
from segzoo.data.transforms.preprocessing import normalize
from segzoo.errors import ConfigError, DataError
from segzoo.inference.class_predictor import ClassPrediction, ClassPredictor, activation_maps, heat_overlay
from segzoo.inference.jobs import Shard
from segzoo.inference.predict import classify
from segzoo.inference.record import Record


@pytest.fixture(scope="module")
def predictor(tiny_classifier_run):
    return ClassPredictor(tiny_classifier_run.run_dir, "cpu")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, size in {"a.jpg": (33, 70), "a.png": (1, 1), "sub/c.png": (65, 57)}.items():
        Image.fromarray(generator.integers(0, 256, (*size, 3), np.uint8)).save(folder / name)
    return folder


def rows(output: Path, name="predictions.csv"):
    with (output / name).open(newline="", encoding="utf-8") as file:
        return {row.pop("image"): row for row in csv.DictReader(file)}


def test_rows_are_the_networks_probabilities_of_the_central_crop(predictor, images, tmp_path):
    report = classify(predictor, images, output=tmp_path / "out", top=2)
    assert [str(path) for path in report.written] == ["a.jpg", "a.png", "sub/c.png"]
    found = rows(tmp_path / "out")
    assert list(found) == ["a.jpg", "a.png", "sub/c.png"]
    loaded = load_classifier(predictor.source.path)
    for name, row in found.items():
        pixels = np.asarray(Image.open(images / name).convert("RGB"))
        seen = predictor.view(pixels)[None]
        with torch.inference_mode():
            chances = loaded.classifier(normalize(seen, loaded.preprocessing))[0].softmax(0)
        values, classes = chances.topk(2)
        assert [row["class_1"], row["class_2"]] == [loaded.labels.names[k] for k in classes]
        assert [float(row["probability_1"]), float(row["probability_2"])] == pytest.approx(values.tolist(), abs=2e-6)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["written"], summary["failed"]) == (3, 0)
    assert sum(entry["images"] for entry in summary["classes"].values()) == 3


def test_more_classes_than_there_are_means_all(predictor, images, tmp_path):
    classify(predictor, images, output=tmp_path / "out", top=50)
    for row in rows(tmp_path / "out").values():
        assert sorted(row[f"class_{rank}"] for rank in (1, 2, 3)) == ["blue", "green", "red"]
        chances = [float(row[f"probability_{rank}"]) for rank in (1, 2, 3)]
        assert sum(chances) == pytest.approx(1, abs=3e-6)
        assert chances == sorted(chances, reverse=True)


def test_batches_change_nothing_beyond_rounding(predictor, images, tmp_path):
    for size in (1, 2, 16):
        classify(predictor, images, output=tmp_path / str(size), batch_size=size)
    alone, *others = (rows(tmp_path / str(size)) for size in (1, 2, 16))
    for other in others:
        for name, row in alone.items():
            assert [row["class_1"], row["class_3"]] == [other[name]["class_1"], other[name]["class_3"]]
            assert float(row["probability_1"]) == pytest.approx(float(other[name]["probability_1"]), abs=1e-5)


def test_every_kind_of_file_becomes_what_its_pixels_say_and_bad_ones_are_named(predictor, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    good, bad = mixed_folder(folder, 40)
    report = classify(predictor, folder, output=tmp_path / "out")
    found = rows(tmp_path / "out")
    assert sorted(found) == sorted(map(str, good))
    failed = json.loads((tmp_path / "out" / "failed.json").read_text())
    assert failed == report.failed
    assert sorted(failed) == sorted(map(str, bad))
    for name, pixels in good.items():
        expected = predictor(np.ascontiguousarray(pixels)).top(1)[0][1]
        assert float(found[str(name)]["probability_1"]) == pytest.approx(expected, abs=2e-3), (
            name
        )  # a level off, at most


def test_existing_outputs(predictor, images, tmp_path):
    output = tmp_path / "out"
    classify(predictor, images, output=output)
    whole = (output / "predictions.csv").read_bytes()
    with pytest.raises(ConfigError, match=r"predictions.csv is there already. Give --skip-existing, --overwrite"):
        classify(predictor, images, output=output)
    # As a run leaves it that was killed while it noted the second image.
    header, first, second, _ = (output / "done.jsonl").read_bytes().splitlines(keepends=True)
    (output / "done.jsonl").write_bytes(header + first + second[:-4])
    (output / "predictions.csv").unlink()
    report = classify(predictor, images, output=output, skip_existing=True)
    assert ([str(path) for path in report.skipped], len(report.written)) == (["a.jpg"], 2)
    assert (output / "predictions.csv").read_bytes() == whole
    (images / "a.png").unlink()
    classify(predictor, images, output=output, overwrite=True)
    assert list(rows(output)) == ["a.jpg", "sub/c.png"]
    with pytest.raises(ConfigError, match="has other columns; give the --top it was made with"):
        classify(predictor, images, output=output, skip_existing=True, top=1)


def test_shards_together_are_one_run(predictor, images, tmp_path):
    classify(predictor, images, output=tmp_path / "one")
    for index in range(2):
        classify(predictor, images, output=tmp_path / "two", shard=Shard(index, 2))
    assert (tmp_path / "two" / "predictions.csv").read_bytes() == (tmp_path / "one" / "predictions.csv").read_bytes()
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two")]
    assert summaries[0]["classes"] == summaries[1]["classes"]


def test_activation_maps_lie_over_the_images_in_their_tree(predictor, images, tmp_path):
    output = tmp_path / "out"
    report = classify(predictor, images, output=output, save=("csv", "cam"))
    assert not report.failed
    names = {"a.jpg": "a_jpg.png", "a.png": "a_png.png", "sub/c.png": "sub/c.png"}
    for image, name in names.items():
        pixels = np.asarray(Image.open(images / image).convert("RGB"))
        expected = predictor.cam_overlay(pixels, predictor(pixels, cam=True))
        assert np.array_equal(np.asarray(Image.open(output / "_cam" / name)), expected)
    (output / "_cam" / "a_jpg.png").unlink()
    again = classify(predictor, images, output=output, save=("csv", "cam"), skip_existing=True)
    assert [str(path) for path in again.written] == ["a.jpg"]
    assert list(rows(output)) == list(names)


def test_wrong_requests(predictor, images, tmp_path):
    for words, message in (
        ({"save": ("mask",)}, "--save: a classifier writes no 'mask'"),
        ({"save": ()}, "--save"),
        ({"top": 0}, "--top: 0"),
        ({"output": images}, "is the input folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            classify(predictor, images, **{"output": tmp_path / "out", **words})
    with pytest.raises(ConfigError, match="no images in this folder"):
        (tmp_path / "empty").mkdir()
        classify(predictor, tmp_path / "empty", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_large_images_fail_alone(predictor, images, tmp_path):
    report = classify(predictor, images, output=tmp_path / "out", max_pixels=3000)
    assert list(report.failed) == ["sub/c.png"]
    assert "--max-pixels raises the limit" in report.failed["sub/c.png"]
    assert len(report.written) == 2


def test_an_image_that_takes_too_much_memory_fails_alone(predictor, images, tmp_path, monkeypatch):
    whole = ClassPredictor.predict

    def failing(self, seen, *, cam=False):
        if any((pixels == pixels[0, 0]).all() for pixels in seen):  # the image of one pixel
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return whole(self, seen, cam=cam)

    monkeypatch.setattr(ClassPredictor, "predict", failing)
    report = classify(predictor, images, output=tmp_path / "out", batch_size=8)
    assert [str(path) for path in report.written] == ["a.jpg", "sub/c.png"]
    assert list(report.failed) == ["a.png"]
    assert "out of memory; --batch-size 1" in report.failed["a.png"]


def test_a_full_disk_ends_the_run_in_one_line(predictor, images, tmp_path, monkeypatch):
    def full(self, result):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Record, "add", full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\). Go on with --skip-existing"):
        classify(predictor, images, output=tmp_path / "out")


# --- activation maps


def test_activation_maps_are_their_definition():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 5, 4, 6, generator=generator)
    weights, classes = torch.randn(7, 5, generator=generator), torch.tensor([6, 0, 6])
    found = activation_maps(features, weights, classes)
    for n in range(3):
        for y in range(4):
            for x in range(6):
                expected = sum(float(weights[classes[n], k] * features[n, k, y, x]) for k in range(5))
                assert float(found[n, y, x]) == pytest.approx(expected, abs=1e-5)


def test_the_mean_of_a_map_is_the_classs_score_without_its_bias(predictor, images):
    pixels = np.asarray(Image.open(images / "a.jpg").convert("RGB"))
    found = predictor(pixels, cam=True)
    index = int(found.probabilities.argmax())
    logits = predictor.scores(predictor.view(pixels)[None])[0]
    bias = float(predictor.source.classifier.logits.bias[index].detach())
    assert float(found.cam.mean()) == pytest.approx(float(logits[index]) - bias, abs=1e-4)
    assert predictor(pixels).cam is None


def test_an_overlay_colors_what_the_network_saw_and_darkens_the_rest():
    picture = np.full((40, 60, 3), 100, np.uint8)
    window = Window(top=5, left=10, height=30, width=40)
    activation = np.array([[-3.0, 2.0], [0.0, 4.0]], np.float32)
    shown = heat_overlay(picture, activation, window)
    outside = np.ones((40, 60), bool)
    outside[5:35, 10:50] = False
    assert (shown[outside] == 40).all()
    heat = cv2.resize(np.array([[0, 0.5], [0, 1]], np.float32), (40, 30), interpolation=cv2.INTER_LINEAR)
    color_map = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_INFERNO)[0, :, ::-1]
    expected = np.rint(50 + color_map[np.rint(heat * 255).astype(int)] / 2)
    assert np.array_equal(shown[5:35, 10:50], expected)
    nothing = heat_overlay(picture, -activation[:, 1:], window)
    assert len(np.unique(nothing[5:35, 10:50].reshape(-1, 3), axis=0)) == 1


def test_fully_connected_layers_have_no_activation_map(predictor, images, tmp_path):
    source = predictor.source
    model = source.config.model.model_copy(update={"fc_width": 8})
    config = source.config.model_copy(update={"model": model})
    wide = replace(source, description=replace(source.description, config=config))
    with pytest.raises(ConfigError, match=r"fully connected layers between \(model.fc_width\)"):
        classify(ClassPredictor(wide, "cpu"), images, output=tmp_path / "out", save=("cam",))


# --- the tool


def test_the_tool_classifies_and_says_what_failed(call_tool, tiny_classifier_run, images, tmp_path):
    run = tiny_classifier_run.run_dir
    done = call_tool("predict.py", run, images, "--output", tmp_path / "out", "--top", 1)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert done.stderr.startswith("predicting: 3 images with ")
    assert "3 written, 0 skipped, 0 failed" in done.stdout
    assert list(rows(tmp_path / "out")["a.jpg"]) == ["class_1", "probability_1"]
    (images / "text.jpg").write_text("no image")
    done = call_tool("predict.py", run, images, "--output", tmp_path / "out", "--skip-existing", "--top", 1)
    assert done.returncode == 1
    assert "0 written, 3 skipped, 1 failed" in done.stdout
    assert "failed: text.jpg: " in done.stdout


def test_a_saved_folder_and_another_engine_say_the_same(call_tool, predictor, images, tmp_path):
    folder = save_model(predictor.source.path, tmp_path / "model")
    classify(predictor, images, output=tmp_path / "run")
    classify(folder, images, output=tmp_path / "saved")
    whole = (tmp_path / "run" / "predictions.csv").read_bytes()
    assert (tmp_path / "saved" / "predictions.csv").read_bytes() == whole
    words = ["--output", tmp_path / "saved", "--skip-existing", "--engine", "onnxruntime"]
    assert call_tool("predict.py", folder, images, *words).returncode == 0  # one network, read elsewhere
    words = ["--output", tmp_path / "other", "--engine", "onnxruntime", "--save", "csv,cam", "--shard", "0/1"]
    assert call_tool("predict.py", folder, images, *words).returncode == 0
    assert json.loads((tmp_path / "other" / "summary.json").read_text())["engine"] == "onnxruntime"
    ours, others = rows(tmp_path / "run"), rows(tmp_path / "other")
    for name, row in ours.items():
        assert [row["class_1"], row["class_3"]] == [others[name]["class_1"], others[name]["class_3"]]
        assert float(row["probability_1"]) == pytest.approx(float(others[name]["probability_1"]), abs=1e-5)


def test_the_tool_refuses_what_a_classifier_has_not(call_tool, tiny_classifier_run, tiny_run, images, tmp_path):
    words = ["--tta", "--tile", "64", "--overlap", "0.2"]
    done = call_tool("predict.py", tiny_classifier_run.run_dir, images, "--output", tmp_path / "out", *words)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: --{name}: for segmenters only, and this is a classifier. Leave it out."
        for name in ("tta", "tile", "overlap")
    ]
    done = call_tool("predict.py", tiny_run.run_dir, images, "--output", tmp_path / "out", "--top", 3)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--top: this is a segmenter" in done.stderr
    assert not (tmp_path / "out").exists()


def test_top_orders_equal_probabilities_by_class():
    found = ClassPrediction(np.array([0.2, 0.4, 0.4], np.float32), LabelSpace.of_images(["a", "b", "c"]))
    assert [name for name, _ in found.top(3)] == ["b", "c", "a"]


def test_an_overlay_takes_little_memory():
    picture = np.zeros((1000, 1000, 3), np.uint8)
    tracemalloc.start()
    heat_overlay(picture, np.ones((4, 4), np.float32), Window(60, 60, 880, 880))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * picture.size / 3


def test_scores_beyond_float32_keep_their_order(predictor, images):
    source = copy.deepcopy(predictor.source)
    head = source.classifier.logits
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.linspace(18, 25, len(head.bias)))
    labels = replace(source.labels, multi_label=True)
    sure = ClassPredictor(replace(source, description=replace(source.description, labels=labels)), "cpu")
    assert sure(next(images.rglob("*.png"))).top(1)[0][0] == predictor.labels.names[-1]
