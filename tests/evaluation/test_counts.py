import errno
import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.lib.format import write_array_header_1_0
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, multilabel_confusion_matrix

from segzoo.data.reading.labels import LabelSpace
from segzoo.errors import DataError
from segzoo.evaluation.counts import SplitCounts, image_counts, miou_interval
from segzoo.tasks.metrics.segmentation import dice


def images_of(classes, number=6):
    generator = np.random.default_rng(classes)
    truths = generator.integers(0, classes, (number, 12, 14), dtype=np.uint8)
    predictions = np.where(generator.random(truths.shape) < 0.6, truths, truths // 2).astype(np.uint8)
    coding = LabelSpace.from_names([str(index) for index in range(classes)]).coding
    tables = [coding.count(torch.tensor(p), torch.tensor(t)) for t, p in zip(truths, predictions, strict=True)]
    rows = [image_counts(i, f"image {i}", table) for i, table in enumerate(tables)]
    return truths, predictions, rows


@pytest.mark.parametrize("classes", [2, 150])
def test_nothing_is_lost_between_images_and_split(classes, tmp_path) -> None:
    truths, predictions, rows = images_of(classes)
    counts = SplitCounts.of(rows, (classes, classes))
    expected = confusion_matrix(truths.ravel(), predictions.ravel(), labels=range(classes))
    assert counts.matrix.tolist() == expected.tolist()
    for truth, predicted, region in zip(truths, predictions, counts.regions, strict=True):
        matrix = confusion_matrix(truth.ravel(), predicted.ravel(), labels=range(classes))
        assert region.tolist() == [matrix.diagonal().tolist(), matrix.sum(1).tolist(), matrix.sum(0).tolist()]

    counts.save(tmp_path / "counts.npz")
    read = SplitCounts.load(tmp_path / "counts.npz")
    assert read.ids == counts.ids
    assert read.matrix.tolist() == counts.matrix.tolist()
    assert (read.regions == counts.regions).all()


def test_several_classes_a_pixel() -> None:
    """Against scikit-learn, each class of each pixel a decision."""
    generator = np.random.default_rng(0)
    truths, predictions = generator.integers(0, 2, (2, 5, 3, 8, 9), dtype=np.uint8)
    coding = LabelSpace.from_names("abc", multi_label=True).coding
    batches = (torch.tensor(masks)[:, None] for masks in (predictions, truths))
    tables = list(map(coding.count, *batches))
    rows = [image_counts(index, str(index), table) for index, table in enumerate(tables)]
    counts = SplitCounts.of(rows, (3, 2, 2))
    truth, predicted = (np.moveaxis(planes, 1, -1).reshape(-1, 3) for planes in (truths, predictions))
    assert counts.matrix.tolist() == multilabel_confusion_matrix(truth, predicted).tolist()
    assert dice(counts.matrix) == pytest.approx(f1_score(truth, predicted, average=None))
    image = rows[4]
    first, second = (np.moveaxis(planes[4], 0, -1).reshape(-1, 3) for planes in (truths, predictions))
    assert image.scores.miou == pytest.approx(jaccard_score(first, second, average="macro"))
    assert image.counted == 72
    assert miou_interval(counts.regions).low < jaccard_score(truth, predicted, average="macro")


def test_damaged_counts_are_refused_in_one_line(tmp_path) -> None:
    path = tmp_path / "counts.npz"
    counts = SplitCounts.of(images_of(3)[2], (3, 3))
    replace(counts, regions=counts.regions + 1).save(path)
    with pytest.raises(DataError, match=r"counts\.npz: no counts of an evaluation \(its tables do not fit together\)"):
        SplitCounts.load(path)
    counts.save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="Evaluate again"):
        SplitCounts.load(path)
    np.savez(path, ids=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="Evaluate again"):
        SplitCounts.load(path)


def test_counts_of_before_outlive_a_full_disk(tmp_path, monkeypatch) -> None:
    path = tmp_path / "counts.npz"
    counts = SplitCounts.of(images_of(3)[2], (3, 3))
    counts.save(path)
    before = path.read_bytes()

    def full(file, **_):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        counts.save(path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def write_npz(path, **headers) -> None:
    """Arrays of zeros that are as large as they say, in a file that is not."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (dtype, shape) in headers.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                write_array_header_1_0(member, {"descr": dtype, "fortran_order": False, "shape": shape})
                for _ in range(4):
                    member.write(bytes(1 << 20))


@pytest.mark.parametrize(
    "headers",
    [
        {"ids": ("<U8", (10**8,)), "matrix": ("<i8", (3, 3)), "regions": ("<i8", (10**8, 3, 3))},
        {"ids": ("<U100000000", (20,)), "matrix": ("<i8", (3, 3)), "regions": ("<i8", (20, 3, 3))},
        {"ids": ("<U8", (2,)), "matrix": ("<i8", (10**6, 10**6)), "regions": ("<i8", (2, 3, 10**6))},
    ],
)
def test_counts_that_claim_more_than_their_file_are_not_unpacked(headers, tmp_path, monkeypatch) -> None:
    write_npz(tmp_path / "counts.npz", **headers)
    monkeypatch.setattr(np, "ndarray", None)  # nothing is made
    with pytest.raises(DataError, match=r"it would unpack to [\d,.]+ GB\)\. Evaluate again"):
        SplitCounts.load(tmp_path / "counts.npz")


def test_what_is_no_archive_of_counts_is_one_line(tmp_path) -> None:
    path = tmp_path / "counts.npz"
    ids, table, regions = ("<U8", (2,)), ("<i8", (3, 3)), ("<i8", (2, 3, 3))
    for headers in (
        {"ids": ids, "matrix": table},
        {"ids": ids, "matrix": ("<f8", (3, 3)), "regions": regions},
        {"ids": ids, "matrix": ("<i8", (9,)), "regions": regions},
        {"ids": ("|O", (2,)), "matrix": table, "regions": regions},
    ):
        write_npz(path, **headers)
        with pytest.raises(DataError, match="Evaluate again"):
            SplitCounts.load(path)
    path.unlink()
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="Evaluate again"):
        SplitCounts.load(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="not a plain file"):
        SplitCounts.load(path)
