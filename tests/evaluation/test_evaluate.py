import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from segzoo.data.dataset import build_dataset
from segzoo.errors import ConfigError
from segzoo.evaluation.evaluate import evaluate
from segzoo.inference.predictor import Predictor
from segzoo.training.train import TrainResult


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


def test_batch_size_changes_nothing(tiny_run: TrainResult, tmp_path: Path) -> None:
    one = evaluate(tiny_run.run_dir, output=tmp_path)
    three = evaluate(tiny_run.run_dir, ["evaluation.batch_size=3"], output=tmp_path)
    assert one.matrix.tolist() == three.matrix.tolist()


def test_split_and_default_output(tiny_run: TrainResult, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(tiny_run.run_dir, run_dir)
    result = evaluate(run_dir, split="train")
    assert result.images == 12
    assert result.output == run_dir / "evaluation" / "train"
    assert json.loads((result.output / "metrics.json").read_text())["split"] == "train"


def test_wrong_requests(tiny_run: TrainResult, shared: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.decoder=unet: only data\.\*, evaluation\.\* and model\.eval_"):
        evaluate(tiny_run.run_dir, ["model.decoder=unet"], output=tmp_path)
    with pytest.raises(ConfigError, match="no split 'tset'"):
        evaluate(tiny_run.run_dir, split="tset", output=tmp_path)
    with pytest.raises(ConfigError, match="Name the data set it was trained on"):
        evaluate(tiny_run.run_dir, ["data.name=camvid", f"data.root={shared / 'data' / 'camvid'}"], output=tmp_path)
