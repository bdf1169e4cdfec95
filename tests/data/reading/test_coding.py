"""What masks of either coding look like, against NumPy and torch."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import DataError


def spaces(names: str = "abcde") -> tuple[LabelSpace, LabelSpace]:
    return LabelSpace.from_names(list(names)), LabelSpace.from_names(list(names), multi_label=True)


def test_masks_are_the_probable_classes() -> None:
    scores = torch.randn(2, 5, 3, 4)
    single, several = (labels.coding for labels in spaces())
    assert torch.equal(single.predict_mask(scores).long(), single.probabilities(scores).argmax(1))
    assert torch.equal(several.predict_mask(scores).bool(), several.probabilities(scores) > 0.5)
    assert single.predict_mask(scores).dtype == several.predict_mask(scores).dtype == torch.uint8
    torch.testing.assert_close(single.probabilities(scores).sum(1), torch.ones(2, 3, 4))
    torch.testing.assert_close(several.probabilities(scores), 1 / (1 + torch.exp(-scores)))


def test_scores_and_probabilities_belong_together() -> None:
    probabilities = torch.randn(2, 5, 3, 4).softmax(1)
    for labels in spaces():
        torch.testing.assert_close(labels.coding.probabilities(labels.coding.scores(probabilities)), probabilities)
    certain = torch.tensor([[1.0, 0.0]])
    for labels in spaces("ab"):
        assert labels.coding.scores(certain).isfinite().all()


def test_shapes() -> None:
    for labels, axes in zip(spaces(), ((), (5,)), strict=True):
        coding = labels.coding
        mask = coding.predict_mask(torch.randn(2, 5, 3, 4))
        assert mask.shape == (2, *axes, 3, 4)
        assert coding.axes == axes
        assert coding.count(mask, coding.mask_target(mask)).shape == coding.table_shape
        assert mask.max() < coding.num_values


def test_the_classes_of_whole_images_are_of_any_number() -> None:
    single, several = (LabelSpace.of_images([str(k) for k in range(300)], multi_label=flag) for flag in (False, True))
    index = single.coding.image_target((255,))
    assert (index.dtype, index.shape, int(index)) == (np.dtype(np.int64), (), 255)
    chosen = several.coding.image_target((3, 255))
    assert (chosen.dtype, np.flatnonzero(chosen).tolist()) == (np.dtype(np.float32), [3, 255])
    target, scores = torch.tensor([255, 299]), torch.zeros(2, 300)
    scores[0, 255] = scores[1, 7] = 1
    counts = single.coding.count(single.coding.predict(scores), target)
    assert counts.nonzero().tolist() == [[255, 255], [299, 7]]  # 255, which masks ignore, is a class here


def test_overlay_mixes_colours_and_leaves_ignored_pixels() -> None:
    image = np.full((1, 3, 3), 100, np.uint8)
    labels = LabelSpace(("a", "b"), ((200, 0, 100), (0, 0, 0)))
    mixed = labels.coding.overlay(image, np.array([[0, 1, 255]], np.uint8), alpha=0.25)
    assert mixed.tolist() == [[[125, 75, 100], [75, 75, 75], [100, 100, 100]]]


def test_classes_that_overlap_mix_their_colours() -> None:
    coding = LabelSpace(("a", "b"), ((200, 0, 0), (0, 100, 0)), multi_label=True).coding
    mask = np.array([[[1, 1, 0, 255]], [[0, 1, 0, 0]]], np.uint8)
    assert coding.paint(mask).tolist() == [[[200, 0, 0], [100, 50, 0], [0, 0, 0], [0, 0, 0]]]
    white = np.full((1, 4, 3), 255, np.uint8)
    assert coding.overlay(white, mask, alpha=1).tolist() == [[[200, 0, 0], [100, 50, 0], [255] * 3, [255] * 3]]


def test_names_of_classes_as_files_may_have_them() -> None:
    assert LabelSpace.from_names(["sky", "road/path"]).coding.file_names == ("sky", "road_path")
    assert LabelSpace.from_names(["sky", "road/path", "Sky"]).coding.file_names == ("00_sky", "01_road_path", "02_Sky")


def test_a_label_space_needs_no_torch() -> None:
    code = "import sys; from segzoo.data.reading.labels import LabelSpace; LabelSpace.from_names(['a']).coding; "
    subprocess.run([sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], check=True)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    single, several = (labels.coding for labels in spaces("ab"))
    for coding in (single, several):
        mask = generator.integers(0, 2, (*coding.axes, 4, 6), dtype=np.uint8)
        files = [tmp_path / part / "x.png" for part in coding.parts] or [tmp_path / "x.png"]
        coding.write(mask, files)
        assert np.array_equal(coding.read(files, (4, 6)), mask)
        with pytest.raises(DataError, match=r"x\.png: 4x6 pixels, not 6x4"):
            coding.read(files, (6, 4))
    assert np.asarray(Image.open(tmp_path / "b" / "x.png")).tolist() == (255 * mask[1]).tolist()


def test_pictures_show_nothing_where_there_is_nothing_to_see() -> None:
    index = np.array([[0, 1, 255]], np.uint8)
    several = np.array([[[1, 1, 0]], [[0, 1, 255]]], np.uint8)
    for labels, mask, shown in zip(spaces("ab"), (index, several), ([255, 255, 0], [255, 255, 0]), strict=True):
        buffer = io.BytesIO()
        labels.coding.picture(mask).save(buffer, format="PNG")
        pixels = np.asarray(Image.open(buffer).convert("RGBA"))
        assert pixels[0, :, 3].tolist() == shown
        assert np.array_equal(pixels[0, :2, :3], labels.coding.paint(mask)[0, :2])
    gray = (128, 128, 128)
    assert spaces("ab")[0].coding.paint(index, gray)[0, 2].tolist() == list(gray)
