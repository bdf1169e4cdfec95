"""A folder of predictions is of one network, and what is said of it is said of the whole folder."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from inference.lively import lively_checkpoint
from inference.mixed_files import picture
from PIL import Image

from segzoo.checkpoint.read import read_checkpoint
from segzoo.checkpoint.saved import save_model
from segzoo.errors import ConfigError, DataError, printable
from segzoo.inference.jobs import Shard
from segzoo.inference.predict import classify, predict
from segzoo.inference.predictor import Predictor
from segzoo.training.train import TrainResult

SAVE = ("mask", "areas")


@pytest.fixture(scope="module")
def first(tiny_run: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor(lively_checkpoint(tiny_run, tmp_path_factory.mktemp("first") / "first.ckpt"))


@pytest.fixture(scope="module")
def second(first: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """The same network but for one weight."""
    return Predictor(changed(first.source.path, tmp_path_factory.mktemp("second") / "second.ckpt"))


def changed(checkpoint: Path, target: Path) -> Path:
    content = read_checkpoint(checkpoint)
    state = content["state_dict"]
    name = next(name for name, tensor in state.items() if tensor.is_floating_point() and tensor.ndim == 4)
    state[name] = state[name] * 1.5
    torch.save(content, target)
    return target


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(picture(number, 24, 40)).save(folder / f"{number}.png")
    return folder


def said(output: Path) -> dict[str, object]:
    """What stands about the whole folder: the classes' areas, in the summary and in the table."""
    summary = json.loads((output / "summary.json").read_text())
    areas = output / "areas.csv"
    return {
        "images": summary["images"],
        "classes": summary["classes"],
        "areas": areas.read_text() if areas.exists() else None,
        "sheet": (output / "contact_sheet.jpg").exists(),
    }


def counted(output: Path, classes: int) -> np.ndarray:
    """Pixels of each class in all masks of a folder."""
    masks = [np.asarray(Image.open(path)) for path in sorted(output.glob("*.png"))]
    return np.bincount(np.concatenate([mask.ravel() for mask in masks]), minlength=classes)


def first_images(folder: Path, count: int, target: Path) -> Path:
    target.mkdir()
    for path in sorted(folder.iterdir())[:count]:
        shutil.copy(path, target)
    return target


# --- one network


def test_another_network_is_refused_and_both_are_named(
    first: Predictor, second: Predictor, images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    predict(first, first_images(images, 3, tmp_path / "part"), output=output)
    before = {path: path.read_bytes() for path in output.iterdir()}
    with pytest.raises(ConfigError, match=r"first\.ckpt.* made of 3 of these images, such as 0\.png.*second\.ckpt"):
        predict(second, images, output=output, skip_existing=True)
    assert {path: path.read_bytes() for path in output.iterdir()} == before
    predict(second, images, output=output, overwrite=True)
    predict(second, images, output=tmp_path / "fresh")
    assert said(output) == said(tmp_path / "fresh")


def test_another_networks_outputs_of_other_images_or_kinds_are_not_joined(
    first: Predictor, second: Predictor, images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    predict(first, first_images(images, 2, tmp_path / "part"), output=output)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(images / "5.png", tmp_path / "elsewhere")
    for source, kinds in ((tmp_path / "elsewhere", ["mask"]), (tmp_path / "part", ["overlay"])):
        for skip_existing in (False, True):
            with pytest.raises(ConfigError, match=r"first\.ckpt.* made of 2 .*images, such as 0\.png.*second\.ckpt"):
                predict(second, source, output=output, save=kinds, skip_existing=skip_existing)
    (output / "0.png").unlink()
    (output / "1.png").unlink()
    predict(second, tmp_path / "elsewhere", output=output, skip_existing=True)


def test_other_weights_under_the_same_path_are_another_network(first: Predictor, images: Path, tmp_path: Path) -> None:
    checkpoint = Path(shutil.copy(first.source.path, tmp_path / "run.ckpt"))
    predict(checkpoint, images, output=tmp_path / "out")
    changed(first.source.path, checkpoint)
    (tmp_path / "out" / "0.png").unlink()
    with pytest.raises(ConfigError, match=r"holds what .*run\.ckpt .* made of 5 of these images"):
        predict(checkpoint, images, output=tmp_path / "out", skip_existing=True)


@pytest.mark.parametrize("skip_existing", [False, True])
def test_a_shard_with_another_network_is_refused(
    first: Predictor, second: Predictor, images: Path, tmp_path: Path, skip_existing: bool
) -> None:
    predict(first, images, output=tmp_path / "out", shard=Shard(0, 2))
    with pytest.raises(ConfigError, match=r"first\.ckpt.*second\.ckpt"):
        predict(second, images, output=tmp_path / "out", shard=Shard(1, 2), skip_existing=skip_existing)


def test_other_preprocessing_is_another_network(first: Predictor, images: Path, tmp_path: Path) -> None:
    content = read_checkpoint(first.source.path)
    content["segzoo"]["config"]["data"]["preprocessing"]["mean"] = [0.4, 0.4, 0.4]
    torch.save(content, tmp_path / "other.ckpt")
    predict(first, images, output=tmp_path / "out")
    with pytest.raises(ConfigError, match="One folder is for one network"):
        predict(tmp_path / "other.ckpt", images, output=tmp_path / "out", skip_existing=True)


def test_the_same_network_from_elsewhere_goes_on(first: Predictor, images: Path, tmp_path: Path) -> None:
    predict(first, first_images(images, 3, tmp_path / "part"), output=tmp_path / "out")
    report = predict(
        save_model(first.source.path, tmp_path / "saved"), images, output=tmp_path / "out", skip_existing=True
    )
    assert (len(report.skipped), len(report.written)) == (3, 3)


def test_classifiers_too(tiny_classifier_run: TrainResult, images: Path, tmp_path: Path) -> None:
    own = tiny_classifier_run.run_dir / "checkpoints" / "best.ckpt"
    classify(own, first_images(images, 3, tmp_path / "part"), output=tmp_path / "out")
    with pytest.raises(ConfigError, match=r"best\.ckpt .* made of 3 of these images.*other\.ckpt"):
        classify(changed(own, tmp_path / "other.ckpt"), images, output=tmp_path / "out", skip_existing=True)


# --- the whole folder


def test_a_resumed_run_speaks_of_all_images_and_computes_none_twice(
    first: Predictor, images: Path, tmp_path: Path
) -> None:
    predict(first, images, output=tmp_path / "whole", save=SAVE)
    output = tmp_path / "out"
    predict(first, first_images(images, 4, tmp_path / "part"), output=output, save=SAVE)
    report = predict(first, images, output=output, save=SAVE, skip_existing=True)
    assert ([path.name for path in report.written], len(report.skipped)) == (["4.png", "5.png"], 4)
    assert said(output) == said(tmp_path / "whole")
    assert report.pixels == counted(output, len(report.pixels)).tolist()
    nothing_left = predict(first, images, output=output, save=SAVE, skip_existing=True)
    assert nothing_left.written == []
    assert said(output) == said(tmp_path / "whole")
    shares = [entry["share"] for entry in json.loads((output / "summary.json").read_text())["classes"].values()]
    assert None not in shares
    assert sum(shares) == pytest.approx(1, abs=1e-5)


def test_areas_asked_for_later_need_no_network(first: Predictor, images: Path, tmp_path: Path) -> None:
    predict(first, images, output=tmp_path / "whole", save=SAVE)
    predict(first, images, output=tmp_path / "out")
    assert predict(first, images, output=tmp_path / "out", save=SAVE, skip_existing=True).written == []
    assert said(tmp_path / "out") == said(tmp_path / "whole")


def test_shards_and_other_shards_are_one_run(first: Predictor, images: Path, tmp_path: Path) -> None:
    predict(first, images, output=tmp_path / "whole", save=SAVE)
    output = tmp_path / "out"
    predict(first, images, output=output, save=SAVE, shard=Shard(1, 3))
    assert json.loads((output / "summary.json").read_text())["images"] == 2
    predict(first, images, output=output, save=SAVE, shard=Shard(0, 3))
    report = predict(first, images, output=output, save=SAVE, skip_existing=True, shard=Shard(0, 2))
    assert [path.name for path in report.written] == ["2.png"]  # 0 and 4 are of the shards before
    report = predict(first, images, output=output, save=SAVE, skip_existing=True)
    assert [path.name for path in report.written] == ["5.png"]
    assert said(output) == said(tmp_path / "whole")


def test_failures_are_of_the_whole_folder_until_they_are_mended(first: Predictor, images: Path, tmp_path: Path) -> None:
    good = (images / "1.png").read_bytes()
    (images / "1.png").write_bytes(b"")
    output = tmp_path / "out"
    for index in range(2):
        report = predict(first, images, output=output, shard=Shard(index, 2))
        assert list(report.failed) == ["1.png"] * index
    assert list(json.loads((output / "failed.json").read_text())) == ["1.png"]
    (images / "1.png").write_bytes(good)
    assert predict(first, images, output=output, skip_existing=True).written == [Path("1.png")]
    assert not (output / "failed.json").exists()


def test_a_record_that_was_cut_anywhere_goes_on(first: Predictor, images: Path, tmp_path: Path) -> None:
    predict(first, images, output=tmp_path / "whole", save=SAVE)
    expected, record = said(tmp_path / "whole"), (tmp_path / "whole" / "done.jsonl").read_bytes()
    header = record.index(b"\n") + 1
    for number, cut in enumerate([header, header + 1, len(record) // 2, len(record) - 2, len(record) - 1]):
        output = Path(shutil.copytree(tmp_path / "whole", tmp_path / f"cut_{number}"))
        (output / "done.jsonl").write_bytes(record[:cut])
        again = predict(first, images, output=output, save=SAVE, skip_existing=True)
        assert len(again.written) + len(again.skipped) == 6
        assert said(output) == expected
        assert predict(first, images, output=output, save=SAVE, skip_existing=True).written == []


def test_rasters_count(first: Predictor, images: Path, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    place = {"crs": "EPSG:32632", "transform": rasterio.transform.from_origin(5e5, 5e6, 1, 1)}
    bands = picture(7, 90, 150).transpose(2, 0, 1)
    path = images / "field.tif"
    with rasterio.open(path, "w", driver="GTiff", width=150, height=90, count=3, dtype="uint8", **place) as file:
        file.write(bands)
    predict(first, path, output=tmp_path / "out")
    report = predict(first, images, output=tmp_path / "out", skip_existing=True)
    with rasterio.open(tmp_path / "out" / "field.tif") as file:
        own = np.bincount(file.read(1).ravel(), minlength=len(report.pixels))
    assert own.sum() == 90 * 150
    assert report.pixels == (own + counted(tmp_path / "out", len(own))).tolist()
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["images"] == 7


# --- what counts as done


@pytest.mark.parametrize("kind", ["mask", "overlay"])
def test_an_empty_output_is_not_done(first: Predictor, images: Path, tmp_path: Path, kind: str) -> None:
    predict(first, images, output=tmp_path / "out", save=("mask", "overlay"))
    file = tmp_path / "out" / ("3.png" if kind == "mask" else "_overlay/3.png")
    whole = file.read_bytes()
    file.write_bytes(b"")
    report = predict(first, images, output=tmp_path / "out", save=("mask", "overlay"), skip_existing=True)
    assert report.written == [Path("3.png")]
    assert file.read_bytes() == whole


def test_another_image_under_an_old_name_is_not_done(first: Predictor, images: Path, tmp_path: Path) -> None:
    predict(first, images, output=tmp_path / "out", save=SAVE)
    Image.fromarray(picture(99, 30, 50)).save(images / "2.png")
    report = predict(first, images, output=tmp_path / "out", save=SAVE, skip_existing=True)
    assert report.written == [Path("2.png")]
    assert Image.open(tmp_path / "out" / "2.png").size == (50, 30)


def test_outputs_of_nobody_knows_which_network(first: Predictor, images: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "4.png").write_bytes(b"somebody's")
    with pytest.raises(ConfigError, match=r"4\.png is there, and no done\.jsonl that says which network"):
        predict(first, images, output=tmp_path / "out", skip_existing=True)
    assert (tmp_path / "out" / "4.png").read_bytes() == b"somebody's"


def test_other_settings_are_told(
    first: Predictor, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    predict(first, first_images(images, 3, tmp_path / "part"), output=tmp_path / "out")
    predict(Predictor(first.source, tile=32), images, output=tmp_path / "out", skip_existing=True)
    assert "some images were computed with other settings" in caplog.text
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["tile"], [other["tile"] for other in summary["other_settings"]]) == (32, [None])


# --- nothing unasked


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_folder_with_images_of_the_input(
    first: Predictor, images: Path, tmp_path: Path, overwrite: bool
) -> None:
    shutil.copy(images / "0.png", tmp_path / "3.jpg")  # its mask would replace images/3.png
    before = (images / "3.png").read_bytes()
    with pytest.raises(ConfigError, match="lies in the input and holds images"):
        predict(first, tmp_path, output=images, overwrite=overwrite)
    assert (images / "3.png").read_bytes() == before
    assert len(list(images.iterdir())) == 6


@pytest.mark.parametrize("name", ["summary.json", "failed.json", "contact_sheet.jpg", "areas.csv", "done.jsonl"])
@pytest.mark.parametrize("skip_existing", [False, True])
def test_files_about_the_folder_are_not_replaced_unasked(
    first: Predictor, images: Path, tmp_path: Path, name: str, skip_existing: bool
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("precious")
    with pytest.raises(ConfigError, match="is there"):
        predict(first, images, output=tmp_path / "out", save=SAVE, skip_existing=skip_existing)
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["precious"]


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe"])
def test_a_record_that_is_a_link_or_a_pipe_is_not_written_into(
    first: Predictor, images: Path, tmp_path: Path, kind: str
) -> None:
    """A folder from somebody else, in which another record says that all goes on as before."""
    output, notes = tmp_path / "out", tmp_path / "notes.txt"
    predict(first, images, output=output)
    (output / "done.jsonl").rename(output / "done_0_of_2.jsonl")
    if kind == "link":
        notes.write_text("my precious notes")
    if kind == "pipe":
        os.mkfifo(output / "done.jsonl")
    else:
        (output / "done.jsonl").symlink_to(notes)
    shutil.copy(images / "0.png", images / "new.png")
    with pytest.raises(DataError, match=r"done\.jsonl: cannot be written") as caught:
        predict(first, images, output=output, skip_existing=True)
    assert len(caught.value.problems) == 1
    assert notes.exists() == (kind == "link")
    assert not notes.exists() or notes.read_text() == "my precious notes"


def test_a_classifiers_tables_neither(tiny_classifier_run: TrainResult, images: Path, tmp_path: Path) -> None:
    for name in ("predictions.csv", "summary.json", "failed.json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("precious")
        with pytest.raises(ConfigError, match="is there already"):
            classify(tiny_classifier_run.run_dir, images, output=tmp_path / name)
        assert (tmp_path / name / name).read_text() == "precious"


# --- names


def test_names_are_no_formulas_in_tables_and_come_back(first: Predictor, images: Path, tmp_path: Path) -> None:
    names = ["=1+1.png", "+a.png", "-b.png", "@SUM(A1).png", "'=c.png", "two\nlines.png", "a,b.png"]
    for path, name in zip(sorted(images.iterdir()), names, strict=False):
        path.rename(images / name)
    Image.fromarray(picture(9, 24, 40)).save(images / names[-1])
    predict(first, images, output=tmp_path / "out", save=SAVE)
    with (tmp_path / "out" / "areas.csv").open(newline="") as file:
        found = {row["image"] for row in csv.DictReader(file)}
    assert not [name for name in found if name[0] in "=+-@\t\r"]
    plain = {name.removeprefix("'") for name in found}  # one quote went in front of each that had to have one
    assert plain == {printable(name) for name in names}
    assert predict(first, images, output=tmp_path / "out", save=SAVE, skip_existing=True).written == []
