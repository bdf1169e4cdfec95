import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segzoo.checkpoint.format import describe
from segzoo.config.load import config_from_tree
from segzoo.data.datasets import cityscapes, voc
from segzoo.errors import ConfigError, DataError
from segzoo.evaluation.submission import BENCHMARKS, check_submission, submit
from segzoo.inference.predictor import Predictor
from segzoo.models.build import build_segmenter

SIZE = (40, 80)


def checkpoint(folder: Path, kind: str) -> Path:
    """A network with random weights and the benchmark's classes."""
    labels = {"voc": voc.LABELS, "cityscapes": cityscapes.LABELS}[kind]
    tree = {
        "data": {"name": kind, "root": str(folder)},
        "model": {"decoder": "deeplabv3plus", "backbone": {"name": "xception", "width": 0.1}},
        "trainer": {"max_steps": 1},
    }
    config = config_from_tree(tree)
    segmenter = build_segmenter(config.model, labels.num_classes, in_channels=3, pretrained=False)
    state = {f"segmenter.{name}": value for name, value in segmenter.state_dict().items()}
    torch.save({"segzoo": describe(config, labels, {}, 1), "state_dict": state}, folder / "random.ckpt")
    return folder / "random.ckpt"


def photograph(path: Path, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_voc_takes_a_split_without_masks(tmp_path: Path) -> None:
    sizes = {"2008_000006": (40, 50), "2008_000011": (33, 21)}
    for name, size in sizes.items():
        photograph(tmp_path / "VOC2012" / "JPEGImages" / f"{name}.jpg", size)
    lists = tmp_path / "VOC2012" / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "test.txt").write_text("\n".join(sizes) + "\n")
    path = checkpoint(tmp_path, "voc")
    archive, masks = submit("voc", path, output=tmp_path / "out")
    assert (archive, masks) == (tmp_path / "out" / "voc_test.tgz", 2)
    assert sorted(tmp_path.glob("out/*")) == [archive]
    with tarfile.open(archive) as packed:
        assert packed.getnames() == [f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in sizes]
        for (name, size), member in zip(sizes.items(), packed, strict=True):
            mask = Image.open(io.BytesIO(packed.extractfile(member).read()))
            assert mask.mode == "P"
            assert mask.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
            assert np.asarray(mask).shape == size
            expected = Predictor(path)(tmp_path / "VOC2012" / "JPEGImages" / f"{name}.jpg").mask
            assert (np.asarray(mask) == expected).all()


def test_cityscapes_has_label_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = pytest.importorskip("cityscapesscripts.helpers.labels", reason="pip install --no-deps cityscapesScripts")
    monkeypatch.setitem(BENCHMARKS, "cityscapes", replace(BENCHMARKS["cityscapes"], size=SIZE))
    names = ["berlin_000000_000019", "bonn_000001_000019"]
    images = [tmp_path / "leftImg8bit" / "test" / n.split("_")[0] / f"{n}_leftImg8bit.png" for n in names]
    for image in images:
        photograph(image, SIZE)
    path = checkpoint(tmp_path, "cityscapes")
    archive, masks = submit("cityscapes", path, output=tmp_path / "out")
    assert (archive.name, masks) == ("cityscapes_test.zip", 2)
    with zipfile.ZipFile(archive) as packed:
        assert packed.namelist() == [f"{name}_labelIds.png" for name in names]
        for name, image in zip(packed.namelist(), images, strict=True):
            mask = Image.open(io.BytesIO(packed.read(name)))
            assert (mask.mode, mask.size) == ("L", SIZE[::-1])
            expected = [[labels.trainId2label[index].id for index in row] for row in Predictor(path)(image).mask]
            assert np.asarray(mask).tolist() == expected


def test_cityscapes_takes_no_other_size(tmp_path: Path) -> None:
    photograph(tmp_path / "leftImg8bit" / "test" / "bonn" / "bonn_000001_000019_leftImg8bit.png", SIZE)
    with pytest.raises(DataError, match="1 images are not 1024x2048, such as .*bonn_000001_000019"):
        submit("cityscapes", checkpoint(tmp_path, "cityscapes"), output=tmp_path / "out")


def test_wrong_requests(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, "voc")
    with pytest.raises(ConfigError, match="--submission cityscapes: needs its 19 classes"):
        submit("cityscapes", path)
    with pytest.raises(ConfigError, match="Did you mean cityscapes"):
        submit("cityscape", path)
    with pytest.raises(ConfigError, match="no ImageSets/Segmentation in '.*' or a VOC2012 below it"):
        submit("voc", path)
    (tmp_path / "VOC2012").mkdir()
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    with pytest.raises(ConfigError, match=rf"no {tmp_path}/ImageSets/.*test\.txt, which lists the split"):
        submit("voc", path)


def test_a_wrong_archive_is_refused(tmp_path: Path) -> None:
    """Every fault in one go: a mask missing, a stranger, wrong size, values, colours and kind."""
    benchmark, images = BENCHMARKS["voc"], {}
    for name in ("good", "missing", "small", "values", "colors", "rgb"):
        photograph(tmp_path / f"{name}.jpg", SIZE)
        images[f"{name}.png"] = tmp_path / f"{name}.jpg"
    masks = {name: np.zeros(SIZE, np.uint8) for name in ("good", "stranger", "small", "values", "colors")}
    masks["small"], masks["values"][0, 0] = np.zeros((3, 3), np.uint8), 21
    with tarfile.open(tmp_path / "made.tgz", "w:gz") as packed:
        for name, mask in masks.items():
            image = Image.fromarray(mask)
            image.putpalette([9, 9, 9] * 256 if name == "colors" else benchmark.palette)
            image.save(tmp_path / f"{name}.png")
            packed.add(tmp_path / f"{name}.png", f"{name}.png")
        photograph(tmp_path / "rgb.png", SIZE)
        packed.add(tmp_path / "rgb.png", "rgb.png")
    with pytest.raises(DataError) as raised:
        check_submission(tmp_path / "made.tgz", images, benchmark)
    said = [problem.removeprefix(f"{tmp_path / 'made.tgz'}: ") for problem in raised.value.problems]
    assert said == [
        f"small.png: 3x3, not the size of {tmp_path / 'small.jpg'}",
        "values.png: holds values that are no class",
        "colors.png: other colours",
        "rgb.png: PNG of mode RGB, not PNG of mode P",
        "missing.png: missing",
        "stranger.png: belongs to no image",
    ]
    (tmp_path / "made.tgz").write_bytes((tmp_path / "made.tgz").read_bytes()[:300])
    with pytest.raises(DataError, match="did not read back"):
        check_submission(tmp_path / "made.tgz", images, benchmark)
