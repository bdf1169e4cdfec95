"""The cheap part of the check: the same lines, bounded samples."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config.schema import DataConfig
from segzoo.data.inspection import check as module
from segzoo.data.inspection.check import check_data, quick_check
from segzoo.errors import DataError


def config(root: Path) -> DataConfig:
    return DataConfig(name="folder", root=str(root))


def test_clean_data_passes(clean: Path) -> None:
    quick_check(config(clean))


def test_the_lines_are_those_of_the_whole_check(clean: Path) -> None:
    (clean / "train/masks/t00.png").unlink()
    (clean / "train/images/t01.png").write_bytes(b"")
    mask = np.array(Image.open(clean / "val/masks/v00.png"))
    mask[0, 0] = 77
    Image.fromarray(mask).save(clean / "val/masks/v00.png")
    Image.fromarray(np.full((16, 20), 255, np.uint8)).save(clean / "val/masks/v01.png")  # only a warning
    with pytest.raises(DataError) as caught:
        quick_check(config(clean))
    report = check_data(config(clean), progress=False)
    assert sorted(caught.value.problems) == sorted(
        finding.line for finding in report.findings if finding.severity == "error"
    )
    assert len(caught.value.problems) == 3


def test_only_some_samples_are_read(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    scan_pair = module.scan_pair
    monkeypatch.setattr(module, "scan_pair", lambda pair, *rest: read.append(pair.id) or scan_pair(pair, *rest))
    quick_check(config(clean), samples=4)
    assert len(read) == len(set(read)) == 8
    first = list(read)
    read.clear()
    quick_check(config(clean), samples=4)
    assert read == first


def test_no_sample_is_begun_after_the_time(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    scan_pair = module.scan_pair
    monkeypatch.setattr(module, "scan_pair", lambda pair, *rest: read.append(pair.id) or scan_pair(pair, *rest))
    clock = itertools.count()  # a second passes between two looks
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    quick_check(config(clean), seconds=3.5)
    assert len(read) == 2 * 3


def test_data_sets_without_files_are_left_alone() -> None:
    quick_check(DataConfig(name="synthetic"))


@pytest.mark.parametrize("colored", [True, False])
def test_images_that_would_come_out_all_but_black_are_refused(clean: Path, colored: bool) -> None:
    """12 of 16 bits without a stated range; with one, whichever it is, they pass."""
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(0)
    for path in clean.glob("*/images/*.png"):
        shape = np.asarray(Image.open(path)).shape[: 3 if colored else 2]
        cv2.imwrite(str(path), random.integers(0, 3000, shape).astype(np.uint16))
    for check in (lambda: quick_check(config(clean)), lambda: _raise_errors(config(clean))):
        with pytest.raises(DataError, match=r"data\.value_range=\[0, 4095\], or \[0, 65535\]") as caught:
            check()
        assert len(caught.value.problems) == 1
    for stated in ((0.0, 4095.0), (0.0, 65535.0)):
        quick_check(config(clean).model_copy(update={"value_range": stated}))


def _raise_errors(data: DataConfig) -> None:
    errors = [finding.line for finding in check_data(data, progress=False).findings if finding.severity == "error"]
    if errors:
        raise DataError(errors)
