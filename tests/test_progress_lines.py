"""Long work without a terminal: a line at the start and one each minute, however it is started."""

import logging
import re
import time
from pathlib import Path

import pytest
from inference.mixed_files import picture
from PIL import Image

from segzoo import progress
from segzoo.inference.predict import predict
from segzoo.inference.predictor import Predictor
from segzoo.training.train import TrainResult


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(picture(number, 24, 40)).save(folder / f"{number}.png")
    return folder


def test_predict_says_what_it_does_from_python(
    tiny_run: TrainResult, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    log = logging.getLogger("segzoo")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own; a script has none
    predict(tiny_run.run_dir, images, output=tmp_path / "out")
    lines = capsys.readouterr().err.splitlines()
    assert log.handlers
    assert re.fullmatch(r"predicting: 3 images with .*best\.ckpt \(network \w{8}\) into .*out", lines[0])


def test_a_line_each_minute_while_one_image_takes_long(
    tiny_run: TrainResult, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.02)
    predictor = Predictor(tiny_run.run_dir)
    compute = predictor.whole_scores

    def slow(images):
        while not any(" of 3, " in record.getMessage() for record in caplog.records):  # until the line is there
            time.sleep(0.01)
        return compute(images)

    monkeypatch.setattr(predictor, "whole_scores", slow)
    with caplog.at_level(logging.INFO, "segzoo"):
        predict(predictor, images, output=tmp_path / "out")
    said = [record.getMessage() for record in caplog.records]
    assert any(re.fullmatch(r"predicting: 0 of 3, 0\.0 a second", line) for line in said)


def test_bytes_and_unknown_ends(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.01)
    with caplog.at_level(logging.INFO, "segzoo"), progress.byte_bar("fetching", None) as move_to:
        move_to(5_000_000)
        while not caplog.records:
            time.sleep(0.01)
    assert caplog.records[0].getMessage().startswith("fetching: 5.0 MB, ")
