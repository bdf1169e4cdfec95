"""Every decoder learns two real images by heart: nothing between image, mask, loss and metric is out of place."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from segzoo.config.schema import RunConfig
from segzoo.training.train import train

IDS = ("2007_000063", "2007_000121")  # a dog with a bottle, two screens
SIZE = (96, 64)  # width and height
STRIDES = {
    "deeplabv3plus": 16,
    "deeplabv3": 8,
    "deeplabv3plus_smp": 8,
    "deeplabv3_smp": 8,
    "unet": 32,
    "unetplusplus": 32,
    "fpn": 32,
    "pspnet": 8,
    "pan": 16,
    "linknet": 32,
    "manet": 32,
    "upernet": 32,
    "segformer": 32,
}
"""Decoder to output stride: what scores at the deepest tap's own size needs more of its pixels."""
WITH_DROPOUT = ("deeplabv3plus_smp", "deeplabv3_smp", "fpn", "pspnet")
"""SMP's defaults drop up to half of the features, which takes far more steps; here none are."""


@pytest.fixture(scope="module")
def two_images(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of VOC's images, shrunk, as a folder data set."""
    root = tmp_path_factory.mktemp("two") / "train"
    voc = shared / "data" / "VOCdevkit" / "VOC2012"
    for source, target, suffix, smooth in (
        ("JPEGImages", "images", ".jpg", Image.Resampling.BOX),
        ("SegmentationClass", "masks", ".png", Image.Resampling.NEAREST),
    ):
        (root / target).mkdir(parents=True)
        for name in IDS:
            Image.open(voc / source / f"{name}{suffix}").resize(SIZE, smooth).save(root / target / f"{name}.png")
    return root.parent


@pytest.mark.slow
@pytest.mark.parametrize(("decoder", "stride"), STRIDES.items(), ids=STRIDES)
def test_overfits_two_images(
    decoder: str, stride: int, two_images: Path, tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Measured by the run's own validation, on the same two images."""
    result = train(
        tiny_config(
            "data.name=folder",
            f"data.root={two_images}",
            "data.val_split=train",
            "data.folder.mask_values={background: 0, bottle: 9, dog: 12, tvmonitor: 20}",
            "data.batch_size=2",
            f"data.crop_size=[{SIZE[1]}, {SIZE[0]}]",
            "data.scale_range=[1, 1]",
            "data.flip_probability=0",
            "data.num_workers=0",
            f"model.decoder={decoder}",
            f"model.output_stride={stride}",
            "model.backbone.width=0.25",
            "optimizer.learning_rate=0.003",
            "optimizer.weight_decay=0",
            "optimizer.warmup_steps=10",
            "trainer.max_steps=75",
            "trainer.val_every_steps=25",
            f"run_dir={tmp_path / 'run'}",
            *[f"model.{decoder}.dropout=0" for _ in range(decoder in WITH_DROPOUT)],
        )
    )
    assert result.summary["best_val_miou"] > 0.95
