"""What Keras writes is read, whatever the layout, and gives what Keras computes."""

import zipfile

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


def test_nothing_of_a_keras_archive_is_executed(keras_files, tmp_path):
    """A config.json that names code is not even read."""
    path = tmp_path / "lambda.keras"
    with zipfile.ZipFile(keras_files.folder / "nested.keras") as good, zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", good.read("model.weights.h5"))
        archive.writestr("config.json", '{"class_name": "Lambda", "config": {"function": "nonsense"}}')
    build_backbone("xception", weights=path)
