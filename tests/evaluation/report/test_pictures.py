import base64
import io

import numpy as np
import pytest
from PIL import Image

from segzoo.data.reading.labels import LabelSpace
from segzoo.evaluation.report.pictures import MAX_BYTES, MAX_SIDE, Example, encode_layers, error_map


def decoded(uri):
    kind, text = uri.split(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    assert kind == f"data:image/{image.format.lower()}"
    return image


@pytest.fixture
def example():
    random = np.random.default_rng(0)
    truth = random.integers(0, 5, (40, 50), dtype=np.uint8)
    truth[:4] = 255
    photograph = np.repeat(np.linspace(0, 255, 50, dtype=np.uint8)[None, :, None], 40, 0).repeat(3, 2)
    return Example(photograph, truth, random.integers(0, 5, (40, 50), dtype=np.uint8))


def test_masks_are_lossless_and_errors_are_where_they_differ(example):
    labels = LabelSpace.from_names("abcde")
    layers = encode_layers(example, labels)
    for uri, mask in ((layers.truth, example.truth), (layers.prediction, example.prediction)):
        assert np.array_equal(np.asarray(decoded(uri).convert("RGB"))[mask == 3], [[128, 128, 0]] * (mask == 3).sum())
        assert np.array_equal(np.asarray(decoded(uri)) == 255, mask == 255)
        visible = np.asarray(decoded(uri).convert("RGBA"))[..., 3] > 0
        assert np.array_equal(visible, mask != 255)
    errors = np.asarray(decoded(layers.errors).convert("RGBA"))
    red = (errors[..., 0] > 200) & (errors[..., 3] == 255)
    expected = [t not in (p, 255) for t, p in zip(example.truth.flat, example.prediction.flat, strict=True)]
    assert red.ravel().tolist() == expected
    assert np.array_equal((errors[..., 3] > 0) & ~red, example.truth == 255)


def test_the_photograph_is_close(example):
    photograph = np.asarray(decoded(encode_layers(example, LabelSpace.from_names("abcde")).image).convert("RGB"))
    assert np.abs(photograph.astype(int) - example.image).mean() < 4


def test_what_is_large_becomes_small_enough():
    random = np.random.default_rng(0)
    noise = random.integers(0, 150, (1200, 1600), dtype=np.uint8)
    labels = LabelSpace.from_names([str(index) for index in range(150)])
    layers = encode_layers(Example(random.integers(0, 256, (1200, 1600, 3), dtype=np.uint8), noise, noise), labels)
    assert layers.size <= MAX_BYTES
    flat = np.zeros((1024, 2048), np.uint8)
    wide = decoded(encode_layers(Example(np.zeros((1024, 2048, 3), np.uint8), flat, flat), labels).truth)
    assert wide.size == (MAX_SIDE, MAX_SIDE // 2)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_odd_sizes(size):
    mask = np.zeros(size, np.uint8)
    layers = encode_layers(Example(np.zeros((*size, 3), np.uint8), mask, mask), LabelSpace.from_names(["a"]))
    assert max(decoded(layers.errors).size) == min(max(size), MAX_SIDE)


def test_planes_of_classes():
    labels = LabelSpace.from_names(["dog", "animal"], multi_label=True)
    truth = np.array([[[1, 0, 255, 255]], [[1, 0, 0, 255]]], np.uint8)
    prediction = np.array([[[1, 1, 1, 1]], [[1, 0, 0, 0]]], np.uint8)
    assert error_map(truth, prediction, 255).tolist() == [[0, 1, 0, 2]]
    layers = encode_layers(Example(np.zeros((1, 4, 3), np.uint8), truth, prediction), labels)
    mean = np.rint(np.mean(labels.palette, axis=0)).tolist()
    assert np.asarray(decoded(layers.truth))[0].tolist() == [[*mean, 255], *[[0, 0, 0, 0]] * 3]
