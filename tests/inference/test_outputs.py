"""What a prediction becomes, read back; and disks that are full."""

import csv
import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from inference.lively import lively_checkpoint
from inference.mixed_files import picture
from PIL import Image

from segzoo.errors import ConfigError, DataError
from segzoo.inference import augment, heads, runner
from segzoo.inference.jobs import Shard
from segzoo.inference.outputs import KINDS
from segzoo.inference.predict import predict
from segzoo.inference.predictor import Predictor
from segzoo.inference.runner import Semaphore
from segzoo.training.train import TrainResult


@pytest.fixture(scope="module")
def predictor(tiny_run: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor(lively_checkpoint(tiny_run, tmp_path_factory.mktemp("lively") / "lively.ckpt"), device="cpu")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images of three sizes, two of which are padded to one."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        height, width = [(40, 60), (37, 62), (64, 33)][number % 3]
        Image.fromarray(picture(number, height, width)).save(folder / f"{number:02d}.png")
    return folder


def test_every_kind_says_the_same(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    predict(predictor, images / "00.png", output=output, save=(*KINDS, "areas"))
    mask = np.asarray(Image.open(output / "00.png"))
    logits = predictor.scores(predictor_input(images / "00.png"))[0].numpy().astype(np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(0)
    stored = np.load(output / "_probabilities/00.npz")
    assert stored["probabilities"].dtype == np.float16
    assert tuple(stored["classes"]) == predictor.labels.names
    np.testing.assert_allclose(stored["probabilities"], chances, atol=6e-4)
    np.testing.assert_array_equal(mask, chances.argmax(0))
    for name, expected in zip(predictor.labels.names, chances, strict=True):
        gray = np.asarray(Image.open(output / f"_probabilities_png/00/{name}.png"))
        assert np.abs(gray - 255 * expected).max() <= 0.51
    entropy = scipy.stats.entropy(chances, axis=0) / np.log(len(chances))
    assert np.abs(np.asarray(Image.open(output / "_entropy/00.png")) - 255 * entropy).max() <= 0.51
    colors = np.array(predictor.labels.palette, np.uint8)[mask]
    np.testing.assert_array_equal(np.asarray(Image.open(output / "_color/00.png")), colors)
    mixed = (picture(0, 40, 60).astype(float) + colors) / 2
    assert np.abs(np.asarray(Image.open(output / "_overlay/00.png")) - mixed).max() <= 0.5
    features = json.loads((output / "_polygons/00.geojson").read_text())["features"]
    rows = list(csv.DictReader((output / "areas.csv").open()))
    for index, (name, row) in enumerate(zip(predictor.labels.names, rows, strict=True)):
        pixels = int((mask == index).sum())
        assert (row["image"], row["class"], int(row["pixels"])) == ("00.png", name, pixels)
        assert float(row["share"]) == pytest.approx(pixels / mask.size, abs=1e-6)
        assert sum(f["properties"]["pixels"] for f in features if f["properties"]["index"] == index) == pixels


def predictor_input(path: Path):
    import torch

    return torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)[None]


def test_batches_change_nothing(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    """Sizes that are padded to one run together; masks differ only where two classes are a float's rounding apart."""
    for size in (1, 8):
        report = predict(
            predictor, images, output=tmp_path / str(size), save=("mask", "probabilities"), batch_size=size
        )
        assert len(report.written) == 12
    assert predictor.batch_key(picture(0, 40, 60)) == predictor.batch_key(picture(0, 37, 62))
    for path in (tmp_path / "1").glob("*.png"):
        alone, together = np.asarray(Image.open(path)), np.asarray(Image.open(tmp_path / "8" / path.name))
        assert alone.shape == Image.open(images / path.name).size[::-1]
        chances = [np.load(tmp_path / size / "_probabilities" / f"{path.stem}.npz")["probabilities"] for size in "18"]
        np.testing.assert_allclose(chances[0].astype(float), chances[1].astype(float), atol=1e-3)
        best = np.sort(chances[0].astype(float), axis=0)
        assert (best[-1] - best[-2])[alone != together].max(initial=0) < 2e-3


def test_a_stream_is_one_image_after_the_other(predictor: Predictor, images: Path) -> None:
    files = sorted(images.iterdir())
    endless = (files[number % len(files)] for number in iter(int, 1) for number in range(len(files)))
    stream = predictor.stream(endless)
    for file, prediction in zip(files, stream, strict=False):
        np.testing.assert_array_equal(prediction.mask, predictor(file).mask)
        np.testing.assert_allclose(prediction.probabilities.sum(0), 1, atol=1e-5)
    stream.close()
    with pytest.raises(DataError, match="no such file"):
        list(predictor.stream([files[0], images / "none.png"]))


def test_tiles_and_augmentation_reach_the_masks(tiny_run: TrainResult, predictor: Predictor, images: Path) -> None:
    source = predictor.source
    file = images / "02.png"  # 64x33
    plain = Predictor(source, device="cpu", tta=augment.TestTimeAugmentation((1.0,), flip=False), tile=64)
    np.testing.assert_array_equal(plain(file).probabilities, predictor(file).probabilities)
    wide = picture(3, 70, 150)
    tiled = Predictor(source, device="cpu", tile=64)
    assert (tiled(wide).mask.shape, tiled(wide).probabilities.shape[1:]) == ((70, 150), (70, 150))
    np.testing.assert_array_equal(tiled(wide).mask, tiled(wide).probabilities.argmax(0))
    flipped = Predictor(source, device="cpu", tta=augment.TestTimeAugmentation((1.0,), flip=True))
    np.testing.assert_allclose(
        flipped(wide).probabilities, flipped(wide[:, ::-1].copy()).probabilities[..., ::-1], atol=1e-5
    )


def test_shards_one_after_the_other_are_one_run(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    (images / "bad.png").touch()
    predict(predictor, images, output=tmp_path / "whole", save=("mask", "areas"))
    for index in range(3):
        predict(predictor, images, output=tmp_path / "parts", save=("mask", "areas"), shard=Shard(index, 3))
    whole, parts = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if not path.name.startswith("done")}
        for name in ("whole", "parts")
    )
    summaries = [json.loads(files.pop("summary.json")) for files in (whole, parts)]
    assert parts == whole  # masks, areas.csv, failed.json and the contact sheet
    assert summaries[0]["classes"] == summaries[1]["classes"]
    assert [summary["images"] for summary in summaries] == [12, 12]


def test_a_full_disk_ends_the_run_and_leaves_whole_files(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = Path.write_bytes, 0

    def write_bytes(self: Path, content: bytes) -> int:
        nonlocal count
        count += self.suffix == ".tmp" and "out" in self.parts
        if count > 5:
            real(self, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(DataError, match="No space left on device.*--skip-existing"):
        predict(predictor, images, output=tmp_path / "out")
    monkeypatch.undo()
    there = list((tmp_path / "out").glob("*.png"))
    assert len(there) == 5
    for path in there:
        assert np.asarray(Image.open(path)).shape == Image.open(images / path.name).size[::-1]
    report = predict(predictor, images, output=tmp_path / "out", skip_existing=True)
    assert (len(report.skipped), len(report.written)) == (5, 7)


def test_one_output_that_cannot_be_written_loses_no_other(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "03.png").mkdir(parents=True)
    report = predict(predictor, images, output=tmp_path / "out", overwrite=True)
    assert list(report.failed) == ["03.png"]
    assert "cannot be written" in report.failed["03.png"]
    assert len(report.written) == 11


def test_an_unreadable_image_loses_no_other(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def opened(self: Path, *args, **kwargs):
        if self.name == "02.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", opened)
    report = predict(predictor, images, output=tmp_path / "out")
    assert list(report.failed) == ["02.png"]
    assert "Permission denied" in report.failed["02.png"]


def test_too_little_memory_is_a_fault_of_one_image(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "free_memory", lambda device: 10_000)
    Image.new("RGB", (2000, 2001)).save(images / "large.png")  # of the others it is known that they fit
    report = predict(predictor, images, output=tmp_path / "out")
    assert list(report.failed) == ["large.png"]
    assert "--tile auto" in report.failed["large.png"]
    assert "GiB" in report.failed["large.png"]
    (images / "large.png").unlink()
    compute = predictor.whole_scores

    def exhausted(batch):
        if batch.shape[0] > 1 or batch.shape[-1] == 33:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
        return compute(batch)

    monkeypatch.undo()
    monkeypatch.setattr(predictor, "whole_scores", exhausted)
    report = predict(predictor, images, output=tmp_path / "two", batch_size=4)
    assert len(report.written) == 8  # in a batch that failed, each is tried alone
    assert all("out of memory" in reason for reason in report.failed.values())


def test_what_images_took_of_the_memory_is_given_back(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images / "00.png").write_bytes(b"no picture")
    made: list[tuple[Semaphore, int]] = []

    def make(size: int) -> Semaphore:
        made.append((Semaphore(size), size))
        return made[0][0]

    monkeypatch.setattr(runner, "Semaphore", make)
    report = predict(predictor, images, output=tmp_path / "out", batch_size=2, max_pixels=10_000)
    assert (list(report.failed), len(report.written)) == (["00.png"], 11)
    (memory, size), *others = made
    assert not others
    assert memory.acquire(size)  # all of it


def test_the_limit_of_pixels_can_be_raised(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    report = predict(predictor, images / "00.png", output=tmp_path / "out", max_pixels=2399)
    assert "60x40 pixels are more than the limit of 2399; --max-pixels" in report.failed["00.png"]
    assert not predict(predictor, images / "00.png", output=tmp_path / "two", max_pixels=2400).failed


def test_areas_that_are_there(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    predict(predictor, images, output=tmp_path / "out", save=("areas",))
    with pytest.raises(ConfigError, match=r"areas.csv is there already"):
        predict(predictor, images, output=tmp_path / "out", save=("areas",))
    again = predict(predictor, images, output=tmp_path / "out", save=("areas",), skip_existing=True)
    assert (len(again.skipped), again.written) == (12, [])


def test_classes_of_their_own_become_planes(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    source = predictor.source
    labels = replace(source.labels, multi_label=True)
    own = Predictor(replace(source, description=replace(source.description, labels=labels)), device="cpu")
    save = (*KINDS, "areas")
    report = predict(own, images, output=tmp_path / "out", save=save)
    assert len(report.written) == 12
    chances = 1 / (1 + np.exp(-predictor.scores(predictor_input(images / "00.png"))[0].numpy().astype(np.float64)))
    rows = list(csv.DictReader((tmp_path / "out/areas.csv").open()))
    for name, expected, row in zip(labels.names, chances, rows, strict=False):
        plane = np.asarray(Image.open(tmp_path / "out" / name / "00.png"))
        np.testing.assert_array_equal(plane, np.where(expected > 0.5, 255, 0))
        share = (plane == 255).mean()
        assert 0 < share < 1
        assert float(row["share"]) == pytest.approx(share, abs=1e-6)
    bits = scipy.stats.entropy(np.stack([chances, 1 - chances]), base=2, axis=0).mean(0)
    assert np.abs(np.asarray(Image.open(tmp_path / "out/_entropy/00.png")) - 255 * bits).max() <= 0.51
    before = (tmp_path / "out/contact_sheet.jpg").read_bytes()
    again = predict(own, images, output=tmp_path / "out", save=save, skip_existing=True)
    assert (len(again.skipped), (tmp_path / "out/contact_sheet.jpg").read_bytes()) == (12, before)
