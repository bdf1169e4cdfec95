"""Every run in configs/: it builds as it is written, and trains two steps with sizes turned down."""

import pytest
import torch

from segzoo.config.load import load_config
from segzoo.config.schema import RunConfig
from segzoo.models.build import build_configured_classifier, build_segmenter
from segzoo.models.networks import check_classifier_training, check_training
from segzoo.tasks.names import known_names
from segzoo.training.train import train

ROOTS = {"voc": "VOCdevkit", "camvid": "camvid", "cityscapes": "cityscapes", "folder": "nuclei"}
SMALL = (
    "model.backbone.width=0.1",
    "model.backbone.weights=null",
    "data.batch_size=2",
    "data.num_workers=0",
    "trainer.max_steps=2",
    "trainer.max_epochs=null",
    "trainer.accumulate=1",
    "trainer.val_every_steps=2",
    "trainer.precision=32",
    "trainer.progress=false",
)
SYNTHETIC = (
    "data.crop_size=65",
    "data.name=synthetic",
    "data.root=null",
    "data.train_split=train",
    "data.val_split=val",
    "data.synthetic={train_images: 4, val_images: 2}",
)


def config_paths(repository):
    return sorted((repository / "configs").glob("*.yaml"))


def pytest_generate_tests(metafunc):
    paths = config_paths(metafunc.config.rootpath)
    segmenters = [path for path in paths if isinstance(load_config(path), RunConfig)]
    own = {"config_path": segmenters, "classifier_path": [path for path in paths if path not in segmenters]}
    for name in own.keys() & set(metafunc.fixturenames):
        metafunc.parametrize(name, own[name], ids=[path.stem for path in own[name]])


def test_there_are_configs(repository):
    names = {path.stem for path in config_paths(repository)}
    assert {"quickstart", "deeplab_xception", "unet_xception", "deeplab_xception_camvid", "my_folder"} <= names


def test_builds_as_it_is_written(config_path):
    config = load_config(config_path, known_names=known_names())
    check_training(config.model, config.data.batch_size, config.data.crop_size)
    with torch.device("meta"):  # no memory, no time
        segmenter = build_segmenter(config.model, 21, pretrained=False)
    height, width = config.data.crop_size
    with torch.no_grad():
        logits = segmenter(torch.empty(config.data.batch_size, 3, height, width, device="meta"))
    assert logits.shape == (config.data.batch_size, 21, height, width)


def test_classifier_builds_as_it_is_written(classifier_path):
    config = load_config(classifier_path, known_names=known_names())
    check_classifier_training(config.model, config.data.batch_size, config.data.image_size)
    with torch.device("meta"):
        classifier = build_configured_classifier(config.model, 10, pretrained=False)
    with torch.no_grad():
        assert classifier(torch.empty(2, 3, *config.data.image_size, device="meta")).shape == (2, 10)


def test_classifier_trains_two_steps(classifier_path, class_folder, tmp_path):
    """On a small folder of colours; a recipe for several labels an image on one as a table."""
    changes = [*SMALL, "data.image_size=65", f"run_dir={tmp_path / 'run'}"]
    config = load_config(classifier_path)
    if config.data.name == "csv":
        for split in ("train", "val"):
            files = sorted((class_folder / split).glob("*/*.png"))
            lines = [f"{file},{file.parent.name};{'even' if int(file.stem) % 2 else 'odd'}" for file in files]
            (tmp_path / f"{split}.csv").write_text("\n".join(["file,label", *lines]) + "\n")
        changes += [f"data.root={tmp_path}"]
    else:
        changes += ["data.name=image_folder", f"data.root={class_folder}"]
    result = train(load_config(classifier_path, changes, known_names=known_names()))
    assert result.summary["steps"] == 2
    assert 0 <= result.scores["map"] <= 1


def check_two_steps(path, tmp_path, data):
    config = load_config(path, [*SMALL, *data, f"run_dir={tmp_path / 'run'}"], known_names=known_names())
    result = train(config)
    assert result.summary["steps"] == 2
    assert 0 <= result.scores.miou <= 1


def test_trains_two_steps(config_path, tmp_path):
    """On synthetic scenes, which every machine has."""
    check_two_steps(config_path, tmp_path, SYNTHETIC)


@pytest.mark.slow
def test_trains_two_steps_on_its_own_data(config_path, shared, tmp_path):
    name = load_config(config_path).data.name
    root = shared / "data" / ROOTS.get(name, "")
    if name not in ROOTS or not root.is_dir():
        pytest.skip(f"no {name} data at hand")
    check_two_steps(config_path, tmp_path, ["data.crop_size=65", f"data.root={root}"])
