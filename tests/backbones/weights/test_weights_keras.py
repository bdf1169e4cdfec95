"""What Keras writes is read, whatever the layout, and gives what Keras computes."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import pytest
import torch
from safetensors.torch import save_file

from segzoo.backbones import build_backbone, build_classifier
from segzoo.backbones.weights.recognise import read_weights
from segzoo.errors import CheckpointError

KERAS = {"padding": "same", "stem_padding": "valid"}
NESTED = ("nested.keras", "nested.weights.h5", "nested.h5")
CLASSES, FC_WIDTH = 4, 6


@pytest.mark.parametrize("name", NESTED)
def test_pooled_features_and_logits_are_keras(keras_files, name):
    """Measured: features, up to 0.74, to 1.2e-7, and logits to 1.2e-7."""
    network = build_classifier("xception", CLASSES, weights=keras_files.folder / name, **KERAS).eval()
    with torch.no_grad():
        features = network.backbone(keras_files.image)[-1].mean(dim=(2, 3))
        logits = network(keras_files.image)
    assert features.std() > 0.01  # not a network that has died away
    torch.testing.assert_close(features, keras_files.features, atol=1e-4, rtol=0)
    torch.testing.assert_close(logits, keras_files.logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["dense.keras", "dense.h5"])
def test_dense_layers_that_a_classifier_can_hold(keras_files, name):
    network = build_classifier("xception", CLASSES, fc_width=FC_WIDTH, weights=keras_files.folder / name, **KERAS)
    with torch.no_grad():
        logits = network.eval()(keras_files.image)
    torch.testing.assert_close(logits, keras_files.dense_logits, atol=1e-4, rtol=0)


def test_dense_layers_that_it_cannot_hold(keras_files, caplog):
    build_classifier("xception", CLASSES, weights=keras_files.folder / "dense.keras")
    assert "2048 → 6 and 6 → 6 and 6 → 4, this network's 2048 → 4" in caplog.text


@pytest.mark.parametrize("name", ["nested.keras", "nested.weights.h5", "bare.weights.h5", "dense.keras", "dense.h5"])
def test_every_layout_gives_the_same_weights(keras_files, name):
    expected, found = (read_weights(keras_files.folder / file).tensors for file in ("nested.h5", name))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_content_decides_not_the_suffix(keras_files, tmp_path):
    for name in NESTED:
        path = tmp_path / f"{name}.pth"
        path.symlink_to(keras_files.folder / name)
        assert read_weights(path).naming == "keras"


def test_keras_timm_and_cadene_are_bitwise_equal(keras_files, keras, tmp_path):
    state = timm_state(keras, keras_files.base)
    save_file(state, tmp_path / "timm.safetensors")
    cadene = {
        name.replace("fc.", "last_linear."): value[:, :, 0, 0] if name.endswith("pointwise.weight") else value
        for name, value in state.items()
    }
    torch.save(cadene, tmp_path / "cadene.pth")
    expected = build_backbone("xception", weights=keras_files.folder / "nested.h5").state_dict()
    for name in ("timm.safetensors", "cadene.pth"):
        found = build_classifier("xception", CLASSES, weights=tmp_path / name)
        assert torch.equal(found.logits.weight, state["fc.weight"])
        assert all(torch.equal(found.backbone.state_dict()[key], expected[key]) for key in expected)


def timm_state(keras, base):
    """Keras' arrays in timm's own network, matched by the order in which both keep their layers."""
    network = pytest.importorskip("timm").create_model("legacy_xception", num_classes=CLASSES)
    modules = dict(network.named_modules())
    separables = [module for module in modules.values() if type(module).__name__ == "SeparableConv2d"]
    norms = {name: module for name, module in modules.items() if isinstance(module, torch.nn.BatchNorm2d)}
    # timm registers the shortcut in front of a module's layers, Keras behind.
    main = [module for name, module in norms.items() if "skipbn" not in name]
    shortcut_norms = [module for name, module in norms.items() if "skipbn" in name]
    shortcuts = [module for name, module in modules.items() if name.endswith(".skip") and module is not None]

    def of(kind, named):
        chosen = [layer for layer in base.layers if type(layer).__name__ == kind]
        return [layer for layer in chosen if layer.name.startswith("block") == named]

    def kernel(array):
        return torch.tensor(array).permute(3, 2, 0, 1)

    for module, layer in zip(separables, of("SeparableConv2D", True), strict=True):
        depthwise, pointwise = layer.get_weights()
        module.conv1.weight.data = torch.tensor(depthwise).permute(2, 3, 0, 1)
        module.pointwise.weight.data = kernel(pointwise)
    convolutions = [network.conv1, network.conv2, *shortcuts]
    for module, layer in zip(convolutions, of("Conv2D", True) + of("Conv2D", False), strict=True):
        module.weight.data = kernel(layer.get_weights()[0])
    layers = of("BatchNormalization", True) + of("BatchNormalization", False)
    for module, layer in zip([*main, *shortcut_norms], layers, strict=True):
        values = map(torch.tensor, layer.get_weights())
        module.weight.data, module.bias.data, module.running_mean.data, module.running_var.data = values
    return {name: value.contiguous() for name, value in network.state_dict().items()}


def damaged(keras_files, tmp_path, change):
    path = tmp_path / "damaged.weights.h5"
    path.write_bytes((keras_files.folder / "nested.weights.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        change(file["layers/functional/layers"])
    return path


def test_a_missing_layer_of_keras_3(keras_files, tmp_path):
    path = damaged(keras_files, tmp_path, lambda layers: layers.pop("separable_conv2d_7"))
    with pytest.raises(CheckpointError, match="has 33 separable layers, where Xception has 34"):
        build_backbone("xception", weights=path)


def test_an_additional_layer_of_keras_3(keras_files, tmp_path):
    path = damaged(keras_files, tmp_path, lambda layers: layers.copy("conv2d", "conv2d_99"))
    with pytest.raises(CheckpointError, match="no place for: layers/functional/conv2d_99/kernel$"):
        build_backbone("xception", weights=path)


def test_another_model_of_keras(keras, tmp_path):
    other = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.Dense(2)])
    other.save(tmp_path / "other.keras")
    with pytest.raises(CheckpointError, match="no Xception in it") as caught:
        build_backbone("xception", weights=tmp_path / "other.keras")
    assert len(caught.value.problems) == 1


def test_nothing_of_a_keras_archive_is_executed(keras, keras_files, tmp_path, monkeypatch):
    """The archive runs code where Keras is told to trust it; here its config.json is not even read."""
    harm, path = tmp_path / "harm", tmp_path / "lambda.keras"
    inputs = keras.Input((2,))
    monkeypatch.setenv("HARM", str(harm))  # Keras keeps neither defaults nor closures of a function
    harmful = keras.layers.Lambda(
        lambda x: (__import__("pathlib").Path(__import__("os").environ["HARM"]).touch(), x)[1]
    )
    keras.Model(inputs, harmful(inputs)).save(tmp_path / "harmful.keras")
    with (
        zipfile.ZipFile(keras_files.folder / "nested.keras") as good,
        zipfile.ZipFile(tmp_path / "harmful.keras") as bad,
        zipfile.ZipFile(path, "w") as archive,
    ):
        archive.writestr("model.weights.h5", good.read("model.weights.h5"))
        for name in ("config.json", "metadata.json"):
            archive.writestr(name, bad.read(name))
    harm.unlink(missing_ok=True)  # Keras ran it while the model was made
    network = build_backbone("xception", weights=path)
    assert not harm.exists()
    expected = build_backbone("xception", weights=keras_files.folder / "nested.keras")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), expected.parameters(), strict=True))
    keras.saving.load_model(tmp_path / "harmful.keras", safe_mode=False)(torch.zeros(1, 2))
    assert harm.exists()  # so it would have been seen


@dataclass(frozen=True)
class Biased:
    """Chollet's network as most people write it down in Keras: no names, and `use_bias` at its default.

    Args:
        folder: holds transfer.keras, transfer.weights.h5, transfer.h5.
        image: in [-1, 1], (1, 3, H, W).
        features: pooled, (1, 2048), as Keras computes them.
        logits: of a head of a hidden layer of 10 and 6 classes.
    """

    folder: Path
    image: torch.Tensor
    features: torch.Tensor
    logits: torch.Tensor


def reimplementation(keras, image):
    layers = keras.layers

    def convolve(kind, x, channels, size, **keywords):
        return layers.BatchNormalization()(kind(channels, size, bias_initializer="random_normal", **keywords)(x))

    def module(x, channels, *, first_relu=True, stride=2):
        kept = x
        for index, count in enumerate(channels):
            x = layers.ReLU()(x) if index or first_relu else x
            x = convolve(layers.SeparableConv2D, x, count, 3, padding="same")
        if stride == 2:
            kept = convolve(layers.Conv2D, kept, channels[-1], 1, strides=2, padding="same")
            x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        return layers.Add()([x, kept])

    x = layers.ReLU()(convolve(layers.Conv2D, image, 32, 3, strides=2))
    x = layers.ReLU()(convolve(layers.Conv2D, x, 64, 3))
    x = module(x, (128, 128), first_relu=False)
    x = module(module(x, (256, 256)), (728, 728))
    for _ in range(8):
        x = module(x, (728, 728, 728), stride=1)
    x = module(x, (728, 1024))
    for count in (1536, 2048):
        x = layers.ReLU()(convolve(layers.SeparableConv2D, x, count, 3, padding="same"))
    return x


@pytest.fixture(scope="module")
def biased(keras, scatter_keras, tmp_path_factory):
    folder = tmp_path_factory.mktemp("biased")
    inputs = keras.Input((75, 91, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(reimplementation(keras, inputs))
    hidden = keras.layers.Dense(10, activation="relu", bias_initializer="random_normal")(pooled)
    model = keras.Model(inputs, keras.layers.Dense(6, bias_initializer="random_normal")(hidden))
    scatter_keras(model)
    model.save(folder / "transfer.keras")
    model.save(folder / "transfer.h5")
    model.save_weights(folder / "transfer.weights.h5")
    image = torch.rand(1, 3, 75, 91, generator=torch.Generator().manual_seed(4)) * 2 - 1
    with torch.no_grad():
        features, logits = keras.Model(inputs, [pooled, model.output])(image.permute(0, 2, 3, 1).numpy())
    return Biased(folder, image, torch.as_tensor(features), torch.as_tensor(logits))


@pytest.mark.parametrize("name", ["transfer.keras", "transfer.weights.h5", "transfer.h5"])
def test_biases_before_norms_and_a_head_of_one_hidden_layer(biased, name, caplog):
    network = build_classifier("xception", 6, fc_width=[10], weights=biased.folder / name, **KERAS).eval()
    assert not caplog.records
    with torch.no_grad():
        features = network.backbone(biased.image)[-1].mean(dim=(2, 3))
        logits = network(biased.image)
    assert features.std() > 0.01
    torch.testing.assert_close(features, biased.features, atol=1e-4, rtol=0)
    torch.testing.assert_close(logits, biased.logits, atol=1e-4, rtol=0)


def test_a_head_of_other_hidden_layers_says_how_to_take_it(biased, caplog):
    build_classifier("xception", 6, weights=biased.folder / "transfer.weights.h5")
    assert "starts at random" in caplog.text
    assert "fc_width=[10] takes them" in caplog.text
    caplog.clear()
    build_classifier("xception", 7, weights=biased.folder / "transfer.weights.h5")
    assert "starts at random" in caplog.text
    assert "takes them" not in caplog.text


def test_a_bias_without_a_norm_behind_it_is_refused(biased, tmp_path):
    """Of a layer without a norm of its own, a bias has nowhere to go."""
    path = tmp_path / "more.weights.h5"
    path.write_bytes((biased.folder / "transfer.weights.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        file.copy("layers/conv2d", "layers/conv2d_99")
    with pytest.raises(CheckpointError, match="no place for: conv2d_99/bias, conv2d_99/kernel$"):
        build_backbone("xception", weights=path)
