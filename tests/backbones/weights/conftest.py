"""Weights that Keras itself wrote, and the numbers it computes with them."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

CLASSES = 4
FC_WIDTH = 6


@dataclass(frozen=True)
class KerasFiles:
    """Files of one Xception, in every layout, and what Keras computes.

    Args:
        folder: holds nested.keras, nested.weights.h5, nested.h5, dense.keras, dense.h5, bare.weights.h5.
        base: Keras' model, without a head.
        image: in [-1, 1], (N, 3, H, W).
        features: pooled, (N, 2048).
        logits: of the nested model's single dense layer.
        dense_logits: of the flat model's three dense layers.
    """

    folder: Path
    base: Any
    image: torch.Tensor
    features: torch.Tensor
    logits: torch.Tensor
    dense_logits: torch.Tensor


@pytest.fixture(scope="session")
def keras() -> Iterator[Any]:
    before = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "torch"  # read when keras is imported
    yield pytest.importorskip("keras")
    if before is None:
        del os.environ["KERAS_BACKEND"]


@pytest.fixture(scope="session")
def scatter_keras(keras: Any) -> Callable[[Any], None]:
    """Give every BatchNorm of a model a random affine and statistics."""
    return lambda model: _scatter_norms(keras, model)


@pytest.fixture(scope="session")
def keras_files(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> KerasFiles:
    folder = tmp_path_factory.mktemp("keras")
    layers = keras.layers
    layers.Conv2D(1, 1)  # so that the session's numbers do not start at the network's first layer
    base = keras.applications.Xception(weights=None, include_top=False, input_shape=(75, 91, 3))
    _scatter_norms(keras, base)

    inputs = keras.Input((75, 91, 3))
    pooled = layers.GlobalAveragePooling2D()(base(inputs))
    nested = keras.Model(inputs, layers.Dense(CLASSES, name="my_classes")(layers.Dropout(0.5)(pooled)))
    flat = layers.GlobalAveragePooling2D()(base.output)
    for _ in range(2):
        flat = layers.Dense(FC_WIDTH, activation="relu", bias_initializer="random_normal")(flat)
    dense = keras.Model(base.input, layers.Dense(CLASSES, bias_initializer="random_normal")(flat))

    for name in ("nested.keras", "nested.h5"):
        nested.save(folder / name)
    nested.save_weights(folder / "nested.weights.h5")
    base.save_weights(folder / "bare.weights.h5")
    for name in ("dense.keras", "dense.h5"):
        dense.save(folder / name)

    image = torch.rand(1, 3, 75, 91, generator=torch.Generator().manual_seed(3)) * 2 - 1
    last_first = image.permute(0, 2, 3, 1).numpy()
    with torch.no_grad():
        features = torch.as_tensor(keras.Model(inputs, pooled)(last_first))
        logits = torch.as_tensor(nested(last_first, training=False))
        dense_logits = torch.as_tensor(dense(last_first, training=False))
    return KerasFiles(folder, base, image, features, logits, dense_logits)


def _scatter_norms(keras: Any, model: Any) -> None:
    """Fresh statistics are identities: any mix-up of norms would go unseen."""
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            count = layer.gamma.shape[0]
            low_high = ((0.5, 1.5), (-0.3, 0.3), (-0.3, 0.3), (0.5, 2.0))
            layer.set_weights([generator.uniform(*bounds, count) for bounds in low_high])
