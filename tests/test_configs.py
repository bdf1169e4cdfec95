"""Every run in configs/: it builds as it is written, and trains two steps with sizes turned down."""

import pytest
import torch

from segzoo.config.load import load_config
from segzoo.models.build import build_segmenter
from segzoo.models.limits import check_training
from segzoo.tasks.names import known_names
from segzoo.training.train import train

ROOTS = {"voc": "VOCdevkit", "camvid": "camvid", "cityscapes": "cityscapes", "folder": "nuclei"}
SMALL = (
    "model.backbone.width=0.1",
    "model.backbone.weights=null",
    "data.batch_size=2",
    "data.crop_size=65",
    "data.num_workers=0",
    "trainer.max_steps=2",
    "trainer.val_every_steps=2",
    "trainer.precision=32",
    "trainer.progress=false",
)
SYNTHETIC = (
    "data.name=synthetic",
    "data.root=null",
    "data.train_split=train",
    "data.val_split=val",
    "data.synthetic={train_images: 4, val_images: 2}",
)


def config_paths(repository):
    return sorted((repository / "configs").glob("*.yaml"))


def pytest_generate_tests(metafunc):
    if "config_path" in metafunc.fixturenames:
        paths = config_paths(metafunc.config.rootpath)
        metafunc.parametrize("config_path", paths, ids=[path.stem for path in paths])


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
    check_two_steps(config_path, tmp_path, [f"data.root={root}"])
