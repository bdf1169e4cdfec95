"""The built-in scenes."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import jaccard_score

from segzoo.config.schema import DataConfig, SyntheticConfig
from segzoo.data import build_dataset
from segzoo.data.datasets.synthetic import LABELS, SyntheticDataset
from segzoo.data.sample import SegmentationDataset
from segzoo.errors import ConfigError

SIZE = (96, 128)


def pixels(data: SegmentationDataset, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours and classes of the counted pixels of `count` scenes."""
    samples = [data[index] for index in range(count)]
    counted = [sample.mask != LABELS.ignore_index for sample in samples]
    colors = [sample.image[keep] for sample, keep in zip(samples, counted, strict=True)]
    classes = [sample.mask[keep] for sample, keep in zip(samples, counted, strict=True)]
    return np.concatenate(colors) / 255, np.concatenate(classes)


def test_splits_have_the_configured_sizes() -> None:
    config = DataConfig(name="synthetic", synthetic=SyntheticConfig(train_images=7, val_images=3, size=(40, 50)))
    train, val = build_dataset(config, "train"), build_dataset(config, "val")
    assert (len(train), len(val)) == (7, 3)
    assert train.labels == val.labels
    assert len(train.labels.names) >= 5
    assert (train[0].image.shape, train[0].mask.shape) == ((40, 50, 3), (40, 50))
    with pytest.raises(ConfigError, match="no split 'test'.*Found: train, val"):
        build_dataset(config, "test")


def test_scenes_differ_and_validation_has_its_own() -> None:
    scenes = [SyntheticDataset(30, SIZE, split)[index].image for split in ("train", "val") for index in range(30)]
    assert len({scene.tobytes() for scene in scenes}) == 60


def test_a_scene_is_the_same_in_every_process_and_order() -> None:
    code = (
        "import zlib; from segzoo.data.datasets.synthetic import SyntheticDataset;"
        "d = SyntheticDataset(9, (96, 128), 'val');"
        "print([zlib.crc32(d[i].image.tobytes() + d[i].mask.tobytes()) for i in (3, 8)])"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in "ab"]
    assert runs[0].stdout == runs[1].stdout
    first, second = SyntheticDataset(9, SIZE, "val"), SyntheticDataset(20, SIZE, "val")
    for index in (8, 3):
        np.testing.assert_array_equal(first[index].image, second[index].image)
        np.testing.assert_array_equal(first[index].mask, second[index].mask)


def test_indices_behave_like_those_of_a_list() -> None:
    data = SyntheticDataset(3, SIZE, "train")
    assert data[-1].id == data.ids[2] == "train_00002"
    np.testing.assert_array_equal(data[-1].mask, data[2].mask)
    with pytest.raises(IndexError):
        data[3]


def test_no_class_is_rare_and_borders_are_ignored() -> None:
    masks = np.stack([SyntheticDataset(50, SIZE, "val")[index].mask for index in range(50)])
    assert set(np.unique(masks)) == {*range(LABELS.num_classes), 255}
    shares = np.bincount(masks.ravel(), minlength=256) / masks.size
    assert shares[: LABELS.num_classes].min() > 0.01
    assert 0.01 < shares[255] < 0.12
    sky, ground = masks == 0, masks == 1
    assert not (sky[:, :-1] & ground[:, 1:]).any()  # never side by side: a border lies between


@pytest.mark.parametrize("size", [(32, 32), (97, 129), (256, 200)])
def test_any_size(size: tuple[int, int]) -> None:
    data = SyntheticDataset(5, size, "train")
    assert all(data[index].mask.shape == size for index in range(5))


@pytest.mark.parametrize("weighting", [None, "balanced"])
def test_colour_alone_does_not_give_the_classes_away(weighting: str | None) -> None:
    colors, classes = pixels(SyntheticDataset(100, SIZE, "train"), 100)
    chosen = np.random.default_rng(0).choice(len(classes), 20_000, replace=False)
    model = LogisticRegression(max_iter=200, class_weight=weighting).fit(colors[chosen], classes[chosen])
    val_colors, val_classes = pixels(SyntheticDataset(50, SIZE, "val"), 50)
    score = jaccard_score(val_classes, model.predict(val_colors), average="macro", zero_division=0)
    assert 0.1 < score <= 0.45


def test_kept_scenes_cannot_be_changed() -> None:
    data = SyntheticDataset(2, SIZE, "train")
    with pytest.raises(ValueError, match="read-only"):
        data[0].image[:] = 0
