"""Decoded samples kept in a folder: the same samples, never stale, whoever writes them."""

import logging
import multiprocessing
import os
import pickle
import resource
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segzoo.config.schema import DataConfig
from segzoo.data import build_dataset
from segzoo.data.datasets.listing import FileDataset
from segzoo.data.loading.cache import CachedDataset, cached
from segzoo.data.loading.datamodule import SegmentationDataModule
from segzoo.data.reading.images import read_image
from segzoo.errors import ConfigError

COUNT = 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pairs"
    for kind in ("images", "masks"):
        (root / "train" / kind).mkdir(parents=True)
        (root / "val" / kind).mkdir(parents=True)
    for split in ("train", "val"):
        for index in range(COUNT):
            write_pair(root / split, f"{index}", seed=index)
    return root


def write_pair(folder: Path, stem: str, seed: int, height: int = 0) -> None:
    random = np.random.default_rng(seed)
    size = (height or 20 + seed, 30)
    Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / "images" / f"{stem}.png")
    Image.fromarray(random.integers(0, 3, size, dtype=np.uint8)).save(folder / "masks" / f"{stem}.png")


def config(root: Path, cache: Path | None, **data: object) -> DataConfig:
    settings = {"name": "folder", "root": str(root), "classes": ["a", "b", "c"], "batch_size": 2, "crop_size": 16}
    return DataConfig.model_validate({**settings, "cache": cache and str(cache), **data})


def open_cached(settings: DataConfig) -> CachedDataset:
    found = cached(build_dataset(settings, "train"), settings, "train")
    assert isinstance(found, CachedDataset)
    return found


def assert_equal(found: CachedDataset, plain: object) -> None:
    assert len(found) == len(plain)
    for index in range(len(found)):
        ours, theirs = found[index], plain[index]
        assert ours.id == theirs.id
        assert ours.image.dtype == theirs.image.dtype
        np.testing.assert_array_equal(ours.image, theirs.image)
        np.testing.assert_array_equal(ours.mask, theirs.mask)


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(FileDataset, "read_image", refuse)
    monkeypatch.setattr(FileDataset, "read_mask", refuse)


def test_samples_are_the_same_and_decoded_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(folder, tmp_path / "cache")
    plain = list(build_dataset(settings, "train"))  # type: ignore[call-overload]
    assert_equal(open_cached(settings), plain)  # written
    forbid_decoding(monkeypatch)
    assert_equal(open_cached(settings), plain)  # read


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 3 workers on 2 cores, on purpose
@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_the_training_stream_is_the_same_with_and_without(folder: Path, tmp_path: Path, num_workers: int) -> None:
    def stream(cache: Path | None) -> list[tuple[list[str], bytes, bytes]]:
        settings = config(folder, cache, num_workers=num_workers)
        module = SegmentationDataModule(settings, steps=12, seed=0, eval_batch_size=1)
        batches = [*module.train_dataloader(), *(items[0] for items in module.val_dataloader())]
        return [(batch["id"], batch["image"].numpy().tobytes(), batch["mask"].numpy().tobytes()) for batch in batches]

    expected = stream(None)
    assert stream(tmp_path / "cache") == expected  # while it is written
    assert stream(tmp_path / "cache") == expected  # from it


def test_changed_files_are_read_again(folder: Path, tmp_path: Path) -> None:
    settings = config(folder, tmp_path / "cache")
    plain = build_dataset(settings, "train")
    first = open_cached(settings)
    assert_equal(first, plain)
    before = first[2]
    old_image = before.image.copy()
    image, mask = folder / "train/images/2.png", folder / "train/masks/4.png"
    same_size = image.stat().st_size
    pixels = np.asarray(Image.open(image)).copy()
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(image, compress_level=9)
    assert abs(image.stat().st_size - same_size) < 100
    mask.write_bytes((folder / "train/masks/5.png").read_bytes())
    (folder / "train/images/4.png").write_bytes((folder / "train/images/5.png").read_bytes())
    again = open_cached(settings)
    assert again[2].image[0, 0, 0] == pixels[0, 0, 0]
    assert_equal(again, plain)
    np.testing.assert_array_equal(before.image, old_image)  # who reads the old version goes on


def test_the_time_of_change_alone_makes_a_new_version(folder: Path, tmp_path: Path) -> None:
    settings = config(folder, tmp_path / "cache")
    assert_equal(open_cached(settings), build_dataset(settings, "train"))
    image = folder / "train/images/3.png"
    content = bytearray(image.read_bytes())
    write_pair(folder / "train", "3", seed=3)  # the same bytes
    assert image.read_bytes() == content
    pixels = np.asarray(Image.open(image)).copy()
    for level in range(10):  # other pixels, but as many bytes
        pixels[5, 5] = 255 - pixels[5, 5] - level
        Image.fromarray(pixels).save(image)
        if image.stat().st_size == len(content):
            break
    assert image.stat().st_size == len(content)
    os.utime(image, ns=(1, 1))
    np.testing.assert_array_equal(open_cached(settings)[3].image, read_image(image))


def test_added_images_and_other_classes_get_their_own_place(folder: Path, tmp_path: Path) -> None:
    settings = config(folder, tmp_path / "cache")
    assert_equal(open_cached(settings), build_dataset(settings, "train"))
    write_pair(folder / "train", "0a", seed=9)
    assert_equal(open_cached(settings), build_dataset(settings, "train"))
    merged = config(folder, tmp_path / "cache", merge_classes={"ab": ["a", "b"]})
    assert_equal(open_cached(merged), build_dataset(merged, "train"))
    assert_equal(open_cached(settings), build_dataset(settings, "train"))


def cache_files(tmp_path: Path) -> list[Path]:
    files = sorted((tmp_path / "cache").glob("*/*.npy"))
    assert len(files) == COUNT
    return files


@pytest.mark.parametrize("kept", [0, 40, 1 / 3])
@pytest.mark.parametrize("as_long", [True, False])
def test_a_damaged_cache_is_written_anew(folder: Path, tmp_path: Path, kept: float, as_long: bool) -> None:
    settings = config(folder, tmp_path / "cache")
    plain = list(build_dataset(settings, "train"))  # type: ignore[call-overload]
    assert_equal(open_cached(settings), plain)
    whole = [file.read_bytes() for file in cache_files(tmp_path)]
    for file, content in zip(cache_files(tmp_path), whole, strict=True):
        start = content[: int(kept * len(content)) if kept < 1 else int(kept)]
        file.write_bytes(start.ljust(len(content), b"\0") if as_long else start)  # as after a power cut
    assert_equal(open_cached(settings), plain)
    assert [file.read_bytes() for file in cache_files(tmp_path)] == whole
    cache_files(tmp_path)[0].unlink()
    assert_equal(open_cached(settings), plain)


def test_a_full_disk_is_said_once_and_training_goes_on(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = config(folder, tmp_path / "cache")
    plain = list(build_dataset(settings, "train"))  # type: ignore[call-overload]
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    found = open_cached(settings)
    with caplog.at_level(logging.WARNING, logger="segzoo"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, unlimited[1]))
        try:
            assert_equal(found, plain)
            assert_equal(found, plain)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert [record.message for record in caplog.records] == [
        "data.cache: [Errno 27] File too large; going on without writing more"
    ]
    assert not list((tmp_path / "cache").glob("*/*"))
    assert_equal(open_cached(settings), plain)


def test_too_small_a_disk_is_said_before_anything_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = config(folder, tmp_path / "cache")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(100, 90, 10))
    plain = build_dataset(settings, "train")
    with caplog.at_level(logging.WARNING, logger="segzoo"):
        assert cached(plain, settings, "train") is plain
    (record,) = caplog.records
    assert "going on without" in record.message


def _read_all(settings, start, errors):
    torch.set_num_threads(1)
    try:
        start.wait(30)
        assert_equal(open_cached(settings), build_dataset(settings, "train"))
        errors.put("")
    except BaseException as error:  # reported to the test
        errors.put(repr(error))


def test_processes_that_write_at_once_agree(folder: Path, tmp_path: Path) -> None:
    settings = config(folder, tmp_path / "cache")
    context = multiprocessing.get_context("fork")
    start, errors = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_read_all, args=(settings, start, errors)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [errors.get(timeout=60) for _ in processes] == [""] * 4
    for process in processes:
        process.join(30)
    cache_files(tmp_path)


def test_it_travels_to_a_process_that_starts_afresh(folder: Path, tmp_path: Path) -> None:
    found = open_cached(config(folder, tmp_path / "cache"))
    found[0]
    content = pickle.dumps(found)
    assert len(content) < 20_000  # not the pixels
    assert_equal(pickle.loads(content), found)  # noqa: S301  (our own bytes)


def test_what_cannot_be_cached(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    settings = config(folder, tmp_path / "file")
    with pytest.raises(ConfigError, match=r"data\.cache: '.*file' cannot be used"):
        cached(build_dataset(settings, "train"), settings, "train")
    synthetic = DataConfig(name="synthetic", cache=str(tmp_path / "cache"))
    scenes = build_dataset(synthetic, "val")
    with caplog.at_level(logging.WARNING, logger="segzoo"):
        assert cached(scenes, synthetic, "val") is scenes
    assert "not read from pairs of files" in caplog.text
    with pytest.raises(ValueError, match="reduced_decoding: a cache keeps full-size images"):
        config(folder, tmp_path, reduced_decoding=True)


def test_a_broken_file_is_named_as_without_a_cache(folder: Path, tmp_path: Path) -> None:
    settings = config(folder, tmp_path / "cache")
    datasets = build_dataset(settings, "train"), open_cached(settings)
    (folder / "train/images/1.png").write_bytes((folder / "train/images/1.png").read_bytes()[:60])
    for dataset in datasets:
        with pytest.raises(Exception, match=r"images/1\.png: damaged or unreadable"):
            dataset[1]


def test_a_link_in_somebody_elses_cache_leads_nowhere(folder: Path, tmp_path: Path) -> None:
    settings = config(folder, tmp_path / "cache")
    plain = list(build_dataset(settings, "train"))  # type: ignore[call-overload]
    assert_equal(open_cached(settings), plain)
    precious = tmp_path / "precious"
    precious.write_text("weeks of work")
    for planted in cache_files(tmp_path):
        planted.unlink()
        planted.symlink_to(precious)
    assert_equal(open_cached(settings), plain)
    assert precious.read_text() == "weeks of work"


def test_a_pipe_in_a_cache_is_not_waited_for(folder: Path, tmp_path: Path) -> None:
    settings = config(folder, tmp_path / "cache")
    plain = list(build_dataset(settings, "train"))  # type: ignore[call-overload]
    assert_equal(open_cached(settings), plain)
    planted = cache_files(tmp_path)[3]
    planted.unlink()
    os.mkfifo(planted)
    assert_equal(open_cached(settings), plain)
    assert planted.is_file()


class Payload:
    """Ends the tests where it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (9,)


def claiming(shape: str, descr: str = "'|u1'") -> bytes:
    """A `.npy` file that says this of itself, and holds little."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(100)


PLANTED = {
    "text": b"pixels",
    "an array of no image": claiming("(20, 30)"),
    "as many bytes as no disk has": claiming(f"({10**15},)"),
    "an image as large as no disk": claiming("(1,)", "[('image', '|u1', (46000, 46000, 1)), ('mask', '|u1', (2, 2))]"),
    "an image without sides": claiming("(1,)", "[('image', '|u1'), ('mask', '|u1'), ('checksum', '<u4')]"),
    "too large for a record": claiming("(1,)", "[('image', '|u1', (1000000, 1000000, 3))]"),
    "no shape": claiming("'many'"),
    "brackets without end": b"\x93NUMPY\x01\x00\x00\x10" + b"[" * 4096,
    "a newer format": b"\x93NUMPY\x07\x00" + bytes(200),
}


@pytest.mark.parametrize("content", PLANTED.values(), ids=PLANTED)
def test_a_file_that_is_no_sample_changes_nothing(folder: Path, tmp_path: Path, content: bytes) -> None:
    settings = config(folder, tmp_path / "cache")
    plain = list(build_dataset(settings, "train"))  # type: ignore[call-overload]
    assert_equal(open_cached(settings), plain)
    for planted in cache_files(tmp_path)[2:5]:
        planted.write_bytes(content)
    assert_equal(open_cached(settings), plain)
    assert sum(path.stat().st_size for path in cache_files(tmp_path)) < 10**6


def test_objects_are_never_unpickled(folder: Path, tmp_path: Path) -> None:
    settings = config(folder, tmp_path / "cache")
    plain = list(build_dataset(settings, "train"))  # type: ignore[call-overload]
    assert_equal(open_cached(settings), plain)
    for planted in cache_files(tmp_path):
        np.save(planted, np.array([Payload()], dtype=object))
    assert_equal(open_cached(settings), plain)


def test_a_sample_in_the_place_of_another_is_not_read(folder: Path, tmp_path: Path) -> None:
    write_pair(folder / "train", "1", seed=11, height=20)  # as large as that of 0
    settings = config(folder, tmp_path / "cache")
    plain = list(build_dataset(settings, "train"))  # type: ignore[call-overload]
    assert_equal(open_cached(settings), plain)
    contents = [file.read_bytes() for file in cache_files(tmp_path)]
    for file, content in zip(cache_files(tmp_path), [*contents[1:], contents[0]], strict=True):
        file.write_bytes(content)
    assert_equal(open_cached(settings), plain)


def test_a_cache_is_what_numpy_reads(folder: Path, tmp_path: Path) -> None:
    settings = config(folder, tmp_path / "cache")
    plain = list(build_dataset(settings, "train"))  # type: ignore[call-overload]
    assert_equal(open_cached(settings), plain)
    stored = [np.load(file, allow_pickle=False) for file in cache_files(tmp_path)]
    assert {record["image"][0].tobytes() for record in stored} == {sample.image.tobytes() for sample in plain}
    assert {record["mask"][0].tobytes() for record in stored} == {sample.mask.tobytes() for sample in plain}


def test_a_cache_that_went_away_is_said_once_and_training_goes_on(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = config(folder, tmp_path / "cache")
    plain = list(build_dataset(settings, "train"))  # type: ignore[call-overload]
    found = open_cached(settings)
    shutil.rmtree(tmp_path / "cache")
    with caplog.at_level(logging.WARNING, logger="segzoo"):
        assert_equal(found, plain)
        assert_equal(found, plain)
    (record,) = caplog.records
    assert "data.cache: " in record.message
    assert "going on without" in record.message


def test_a_cache_that_was_made_anew_for_other_images_is_not_read(folder: Path, tmp_path: Path) -> None:
    """As where one run's cache is deleted, and another run writes one of the same name."""
    settings = config(folder, tmp_path / "cache")
    plain = list(build_dataset(settings, "train"))  # type: ignore[call-overload]
    found = open_cached(settings)
    shutil.rmtree(tmp_path / "cache")
    for stem in ("0", "1", "2"):
        for kind in ("images", "masks"):
            (folder / "train" / kind / f"{stem}.png").rename(tmp_path / f"{kind}{stem}.png")
    others = open_cached(settings)
    assert_equal(others, plain[3:])
    for stem in ("0", "1", "2"):
        for kind in ("images", "masks"):
            (tmp_path / f"{kind}{stem}.png").rename(folder / "train" / kind / f"{stem}.png")
    assert_equal(found, plain)


def test_a_file_with_the_time_and_size_of_another_is_another(folder: Path, tmp_path: Path) -> None:
    """Labels mended by a program that keeps the time of change, as archives and `cp -p` do."""
    settings = config(folder, tmp_path / "cache")
    mask = folder / "train/masks/4.png"
    values = np.asarray(Image.open(mask))
    Image.fromarray(values).save(mask, compress_level=0)
    assert_equal(open_cached(settings), build_dataset(settings, "train"))
    before = mask.stat()
    Image.fromarray(2 - values).save(mask, compress_level=0)
    os.utime(mask, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (mask.stat().st_size, mask.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    np.testing.assert_array_equal(open_cached(settings)[4].mask, 2 - values)
