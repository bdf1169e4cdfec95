"""What one sees is what trains."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segzoo.config.schema import RunConfig
from segzoo.data.inspection import browse as module
from segzoo.data.inspection.browse import browse
from segzoo.data.loading.datamodule import SegmentationDataModule
from segzoo.data.pictures import GridImage
from segzoo.data.reading.images import read_image

TinyConfig = Callable[..., RunConfig]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[list[GridImage]]]:
    """The rows of every grid that is drawn."""
    sheets = []
    draw = module.image_grid
    monkeypatch.setattr(module, "image_grid", lambda rows, *rest: sheets.append(rows) or draw(rows, *rest))
    return sheets


def test_the_sheet_holds_the_runs_first_batches(
    tiny_config: TinyConfig, tmp_path: Path, drawn: list[list[list[GridImage]]]
) -> None:
    config = tiny_config("seed=3", "data.preprocessing.mean=[0.4, 0.5, 0.6]", "data.preprocessing.std=[0.2, 0.3, 1.7]")
    path = browse(config, tmp_path / "new" / "sheet.png", count=4)
    assert read_image(path).shape[1] == 8 + 5 * 264
    data = SegmentationDataModule(config.data, steps=6, seed=3, eval_batch_size=1)
    batch = next(iter(data.train_dataloader()))
    for row, image, mask in zip(drawn[0], batch["image"], batch["mask"], strict=True):
        stored, first, over = row[:3]
        assert stored.image is not None
        assert first.image is not None
        np.testing.assert_array_equal(first.image, image.permute(1, 2, 0).numpy())
        np.testing.assert_array_equal(over.mask, mask.numpy())
        assert not np.array_equal(row[3].image, first.image)  # the second pass is augmented anew


def test_other_splits_are_shown_whole(
    tiny_config: TinyConfig, tmp_path: Path, drawn: list[list[list[GridImage]]]
) -> None:
    config = tiny_config()
    browse(config, tmp_path / "sheet.png", split="val", count=50)
    data = SegmentationDataModule(config.data, steps=6, seed=0, eval_batch_size=1)
    assert len(drawn[0]) == len(data.val_dataset)
    samples = {sample_id: data.val_dataset[index] for index, sample_id in enumerate(data.val_dataset.ids)}
    for row in drawn[0]:
        sample = samples[row[0].caption.split(",")[0]]
        np.testing.assert_array_equal(row[0].image, sample.image)
        np.testing.assert_array_equal(row[1].mask, sample.mask)
