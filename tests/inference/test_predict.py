import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.errors import ConfigError, DataError
from segzoo.files import atomic_write
from segzoo.inference.predict import predict
from segzoo.inference.predictor import Predictor
from segzoo.training.train import TrainResult


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images of odd sizes in a tree."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, (height, width) in {"a.jpg": (33, 70), "b.png": (1, 1), "sub/c.png": (65, 17)}.items():
        Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8)).save(folder / name)
    return folder


def test_masks_have_the_size_the_palette_and_the_tree(tiny_run: TrainResult, images: Path, tmp_path: Path) -> None:
    report = predict(tiny_run.run_dir, images, output=tmp_path / "out", save=("mask", "color", "overlay"))
    assert (len(report.written), report.failed) == (3, {})
    for name in ("a", "b", "sub/c"):
        source = next(path for path in images.rglob("*") if path.stem == Path(name).name)
        mask = Image.open(tmp_path / "out" / f"{name}.png")
        assert (mask.mode, mask.size) == ("P", Image.open(source).size)
        assert mask.getpalette()[: 3 * tiny_run.labels.num_classes] == [
            c for rgb in tiny_run.labels.palette for c in rgb
        ]
        assert np.asarray(mask).max() < tiny_run.labels.num_classes
        color = Image.open(tmp_path / "out" / "_color" / f"{name}.png")
        assert np.array_equal(np.asarray(color), np.asarray(mask.convert("RGB")))
        assert Image.open(tmp_path / "out" / "_overlay" / f"{name}.png").mode == "RGB"


def test_python_and_folder_agree(tiny_run: TrainResult, images: Path, tmp_path: Path) -> None:
    predict(tiny_run.run_dir, images, output=tmp_path / "out")
    predictor = Predictor(tiny_run.run_dir)
    expected = np.asarray(Image.open(tmp_path / "out" / "sub" / "c.png"))
    path = images / "sub" / "c.png"
    for image in (path, Image.open(path), np.asarray(Image.open(path))):
        assert np.array_equal(predictor(image).mask, expected)


def test_bad_files_among_good_ones(tiny_run: TrainResult, images: Path, tmp_path: Path) -> None:
    whole = (images / "a.jpg").read_bytes()
    (images / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "empty.png").touch()
    (images / "text.jpg").write_text("no image")
    report = predict(tiny_run.run_dir, images, output=tmp_path / "out")
    assert len(report.written) == 3
    failed = json.loads((tmp_path / "out" / "failed.json").read_text())
    assert failed == report.failed
    assert sorted(failed) == ["cut.jpg", "empty.png", "text.jpg"]
    assert all(failed.values())


def test_existing_outputs(tiny_run: TrainResult, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    predict(tiny_run.run_dir, images, output=output)
    complete = {path: path.read_bytes() for path in output.rglob("*.png")}
    with pytest.raises(ConfigError, match="3 outputs are there already"):
        predict(tiny_run.run_dir, images, output=output)
    (output / "a.png").unlink()
    (output / "b.png").write_bytes(b"kept")
    report = predict(tiny_run.run_dir, images, output=output, skip_existing=True)
    assert (report.written, len(report.skipped)) == ([Path("a.jpg")], 2)
    assert (output / "b.png").read_bytes() == b"kept"
    predict(tiny_run.run_dir, images, output=output, overwrite=True)
    assert {path: path.read_bytes() for path in output.rglob("*.png")} == complete


def test_output_inside_input_is_not_read_again(tiny_run: TrainResult, images: Path) -> None:
    for _ in range(2):
        report = predict(tiny_run.run_dir, images, output=images / "out", overwrite=True)
        assert len(report.written) == 3


def test_wrong_requests(tiny_run: TrainResult, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is the input folder"):
        predict(tiny_run.run_dir, images, output=images)
    listed = tmp_path / "lists" / "list.txt"
    listed.parent.mkdir()
    listed.write_text("".join(f"{path}\n" for path in images.glob("*.*g")))
    for source in (images / "**/*.*g", listed):
        with pytest.raises(ConfigError, match="is the input folder"):
            predict(tiny_run.run_dir, source, output=images)
    assert predict(tiny_run.run_dir, listed, output=listed.parent).written  # beside the list, not among the images
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        predict(tiny_run.run_dir, images, output=tmp_path / "file" / "out", save=("mask", "areas"))
    with pytest.raises(ConfigError, match="no such file or folder"):
        predict(tiny_run.run_dir, tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"unknown kind 'masks'. Did you mean mask\?"):
        predict(tiny_run.run_dir, images, save=("masks",))


def test_one_file(tiny_run: TrainResult, images: Path, tmp_path: Path) -> None:
    report = predict(tiny_run.run_dir, images / "a.jpg", output=tmp_path / "out")
    assert report.written == [Path("a.jpg")]
    assert (tmp_path / "out" / "a.png").exists()


def test_what_a_killed_run_left_half_written_is_removed(tiny_run: TrainResult, images: Path, tmp_path: Path) -> None:
    mask, other = tmp_path / "out" / "a.png", tmp_path / "out" / "of_another_run.png"
    mask.parent.mkdir()
    with suppress(RuntimeError), atomic_write(mask) as left, atomic_write(other) as kept:
        raise RuntimeError
    left.touch()
    kept.touch()
    predict(tiny_run.run_dir, images, output=tmp_path / "out", skip_existing=True)
    assert [path for path in (left, kept) if path.exists()] == [kept]
