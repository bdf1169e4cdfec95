"""TIFFs as rasterio and tifffile write them: every band seen or the file refused, and what has no value gray."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config.schema import DataConfig
from segzoo.data import build_dataset
from segzoo.data.reading.images import read_image
from segzoo.data.reading.masks import read_mask
from segzoo.data.reading.pixels import RGB8, PixelFormat, warn_of_dark
from segzoo.data.reading.tiff import read_tiff_header
from segzoo.errors import DataError
from segzoo.inference.raster import opened_raster
from segzoo.inference.tiles import Span

rasterio = pytest.importorskip("rasterio")
tifffile = pytest.importorskip("tifffile")
from rasterio.transform import from_origin  # noqa: E402  # where rasterio is

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
PLACE = {"crs": "EPSG:32632", "transform": from_origin(500_000, 5_300_000, 0.5, 0.5)}
SIZE = (40, 56)


def bands(count: int, dtype: type[np.generic] = np.uint8, high: int = 256) -> np.ndarray:
    """Random numbers (C, H, W)."""
    return np.random.default_rng(count).integers(1, high, (count, *SIZE)).astype(dtype)


def write(path: Path, values: np.ndarray, **profile: object) -> Path:
    """A TIFF of bands (C, H, W) as rasterio writes it."""
    count, height, width = values.shape
    settings = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype}
    with rasterio.open(path, "w", **(settings | profile)) as file:
        file.write(values)
    return path


def by_windows(path: Path, pixels: PixelFormat) -> np.ndarray:
    with opened_raster(path, pixels) as raster:
        whole = [Span(0, size, 0, size, np.ones(1)) for size in raster.size]
        return raster.tile(*whole)[0].numpy().transpose(1, 2, 0)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bands_as_rasterio_writes_them_are_pictures(
    tmp_path: Path, interleave: str, count: int, dtype: type[np.generic]
) -> None:
    """Those of 16 bits are gray with two more samples to Pillow, which calls them no image."""
    largest = np.iinfo(dtype).max
    stored = bands(count, dtype, int(largest) + 1)
    path = write(tmp_path / "a.tif", stored, interleave=interleave)
    expected = np.rint(stored / (largest / 255)).astype(np.uint8).transpose(1, 2, 0)
    np.testing.assert_array_equal(RGB8.read(path), np.broadcast_to(expected, (*SIZE, 3)))
    np.testing.assert_array_equal(by_windows(path, RGB8), RGB8.read(path))
    assert RGB8.size(path) == SIZE


@pytest.mark.parametrize(
    ("count", "profile"),
    [
        (4, {"photometric": "RGB", "alpha": "NO"}),
        (4, {"photometric": "MINISBLACK"}),
        (4, {}),  # which GDAL marks as alpha
        (2, {"photometric": "MINISBLACK"}),
        (5, {}),
        (6, {"interleave": "band"}),
    ],
)
def test_bands_that_rgb_would_drop_are_refused(tmp_path: Path, count: int, profile: dict[str, str]) -> None:
    stored = bands(count, high=200)
    for dtype in (np.uint8, np.uint16):
        path = write(tmp_path / "a.tif", stored.astype(dtype), **profile)
        for read in (RGB8.read, lambda path: by_windows(path, RGB8)):
            with pytest.raises(DataError, match=rf"a\.tif: .*data\.channels={count}") as caught:
                read(path)
            assert len(caught.value.problems) == 1
        np.testing.assert_allclose(
            PixelFormat(count, (0.0, 255.0)).read(path), stored.transpose(1, 2, 0) / 255, atol=1e-6
        )


def test_pages_are_channels_and_never_dropped(tmp_path: Path) -> None:
    stored = bands(4)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack")
    with pytest.raises(DataError, match=r"a\.tif: 4 channels where 3 belong"):
        RGB8.read(tmp_path / "a.tif")
    np.testing.assert_allclose(PixelFormat(4).read(tmp_path / "a.tif"), stored.transpose(1, 2, 0) / 255, atol=1e-7)
    tifffile.imwrite(tmp_path / "b.tif", np.stack([stored[:3].transpose(1, 2, 0)] * 2), photometric="rgb")
    with pytest.raises(DataError, match=r"b\.tif: 2 pages of 3 channels each"):
        RGB8.read(tmp_path / "b.tif")
    with tifffile.TiffWriter(tmp_path / "c.tif") as file:  # a smaller copy is no channel
        file.write(stored[0], photometric="minisblack")
        file.write(stored[0, ::2, ::2], photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(RGB8.read(tmp_path / "c.tif")[..., 0], stored[0])


def test_real_transparency_stays_over_gray(tmp_path: Path) -> None:
    stored = bands(4)
    stored[3] = 255
    stored[3, :10], stored[3, 10] = 0, 128  # a soft edge
    path = write(tmp_path / "a.tif", stored)
    expected = read_image(path)
    assert (expected[:10] == 128).all()
    np.testing.assert_array_equal(expected[11:], stored[:3, 11:].transpose(1, 2, 0))
    np.testing.assert_array_equal(RGB8.read(path), expected)
    np.testing.assert_array_equal(by_windows(path, RGB8), expected)
    assert RGB8.lost(path) is None  # a picture whose ground is clear
    np.testing.assert_array_equal(RGB8.lost(write(path, stored, **PLACE)), np.arange(40)[:, None].repeat(56, 1) < 10)


NODATA: dict[str, Callable[[], tuple[np.ndarray, float | None, PixelFormat]]] = {
    "float -9999": lambda: (bands(3, np.float32) / np.float32(255), -9999.0, PixelFormat(3, (0.0, 1.0))),
    "float NaN": lambda: (bands(2, np.float32) / np.float32(255), float("nan"), PixelFormat(2, (0.0, 1.0))),
    "float smallest": lambda: (bands(2, np.float32), float(np.finfo(np.float32).min), PixelFormat(2, (0.0, 255.0))),
    "8-bit colour 0": lambda: (bands(3), 0.0, RGB8),
    "8-bit gray 255": lambda: (bands(1, high=255), 255.0, RGB8),
    "16-bit colour 65535": lambda: (bands(3, np.uint16, 60_000), 65535.0, RGB8),
    "16-bit signed": lambda: (bands(4, np.int16, 10_000), -32768.0, PixelFormat(4, (0.0, 10_000.0))),
    "16 bits of a range": lambda: (bands(5, np.uint16, 4000), 0.0, PixelFormat(5, (0.0, 4095.0))),
    "NaN without a word": lambda: (bands(2, np.float32) / np.float32(255), None, PixelFormat(2, (0.0, 1.0))),
}


@pytest.mark.parametrize("kind", NODATA)
def test_nodata_is_gray_in_the_image_and_ignored_in_the_mask(tmp_path: Path, kind: str) -> None:
    """The same read whole, as in training and evaluation, and by windows, as in prediction."""
    stored, nodata, pixels = NODATA[kind]()
    stored[:, 5:15, 20:40] = np.nan if nodata is None else nodata
    lost = np.zeros(SIZE, bool)
    lost[5:15, 20:40] = True
    images, masks = tmp_path / "train/images", tmp_path / "train/masks"
    images.mkdir(parents=True)
    masks.mkdir()
    path = write(images / "a.tif", stored, nodata=nodata, **PLACE)
    Image.fromarray(np.full(SIZE, 1, np.uint8)).save(masks / "a.png")
    seen = pixels.read(path)
    assert (seen[lost] == (128 if pixels.is_rgb8 else 0.5)).all()
    low, high = pixels.value_range or (0, np.iinfo(stored.dtype).max)
    shares = (stored.transpose(1, 2, 0).astype(np.float64) - low) / (high - low)
    expected = np.broadcast_to(np.rint(shares * 255) if pixels.is_rgb8 else shares, seen.shape)
    np.testing.assert_allclose(seen[~lost], expected[~lost], atol=1e-6)
    np.testing.assert_array_equal(by_windows(path, pixels), seen)
    config = DataConfig(
        name="folder",
        root=str(tmp_path),
        classes=("a", "b"),
        channels=pixels.channels,
        value_range=pixels.value_range,
    )
    sample = build_dataset(config, "train")[0]
    np.testing.assert_array_equal(sample.mask == 255, lost)
    np.testing.assert_array_equal(sample.image, seen)


def test_a_mask_inside_the_file_says_what_is_there(tmp_path: Path) -> None:
    path, there = write(tmp_path / "a.tif", bands(3), **PLACE), np.ones(SIZE, bool)
    there[:, 30:] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(there)
    np.testing.assert_array_equal(RGB8.lost(path), ~there)
    assert (RGB8.read(path)[:, 30:] == 128).all()
    np.testing.assert_array_equal(by_windows(path, RGB8), RGB8.read(path))


def test_a_value_in_one_channel_only_is_gray_there_if_it_can_be_none(tmp_path: Path) -> None:
    stored = bands(3, np.float32) / np.float32(255)
    stored[1, 7, 9], stored[0, 3, 4] = -9999, np.nan
    pixels, path = PixelFormat(3, (0.0, 1.0)), write(tmp_path / "a.tif", stored, nodata=-9999)
    assert [pixels.read(path)[7, 9, 1], pixels.read(path)[3, 4, 0]] == [0.5, 0.5]
    assert pixels.lost(path) is None
    np.testing.assert_array_equal(by_windows(path, pixels), pixels.read(path))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_many_channels_are_turned_as_pillow_turns_pictures(tmp_path: Path, orientation: int) -> None:
    stored, tag = bands(3).transpose(1, 2, 0), [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extratags=tag)
    tifffile.imwrite(
        tmp_path / "b.tif",
        stored.astype(np.uint16) * 257,
        photometric="minisblack",
        planarconfig="contig",
        extratags=tag,
    )
    expected = RGB8.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(RGB8.read(tmp_path / "b.tif"), expected)
    assert RGB8.size(tmp_path / "b.tif") == RGB8.size(tmp_path / "a.tif") == expected.shape[:2]


def directory(tags: dict[int, tuple[int, int, int]], following: int) -> bytes:
    """A page of a classic TIFF: tag -> type, count, value."""
    entries = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(tags.items()))
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)


def page(side: int, following: int = 0, tile: int = 0, samples: int = 1, data: int = 8) -> bytes:
    tags = {256: (4, 1, side), 257: (4, 1, side), 258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 1), 277: (3, 1, samples)}
    own = {322: (4, 1, tile), 323: (4, 1, tile), 324: (4, 1, data), 325: (4, 1, 20)}
    strips = {273: (4, 1, data), 278: (4, 1, side), 279: (4, 1, 20)}
    return directory(tags | (own if tile else strips), following)


def circle(pages: int) -> bytes:
    """Pages of which the last one names the first one as the next."""
    length = len(page(8))
    return struct.pack("<2sHI", b"II", 42, 8) + b"".join(
        page(8 + number % 2, 8 + (number + 1) % pages * length) for number in range(pages)
    )


HOSTILE = {
    "a circle of one": (circle(1), "form a circle"),
    "a circle of two": (circle(2), "form a circle"),
    "a circle of five": (circle(5), "form a circle"),
    "a giant tile": (struct.pack("<2sHI", b"II", 42, 8) + page(100, tile=65_520), "blocks of 65520x65520 pixels"),
    "a giant strip": (
        struct.pack("<2sHI", b"II", 42, 8) + page(13_000, samples=60_000),
        "channels where|claim to hold",
    ),
    "an empty claim": (struct.pack("<2sHI", b"II", 42, 8) + page(13_000), "bytes that claim to hold"),
    "a giant": (struct.pack("<2sHI", b"II", 42, 8) + page(65_520, tile=65_520), "more than the limit"),
    "no pixels": (struct.pack("<2sHI", b"II", 42, 8) + page(0), "0x0 pixels"),
    "cut off": (circle(2)[:40], "cut off"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_headers_are_refused_before_anything_is_decoded(tmp_path: Path, kind: str) -> None:
    content, reason = HOSTILE[kind]
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    for read in (RGB8.read, PixelFormat(3, (0.0, 255.0)).read, PixelFormat(6).read, read_image, read_mask):
        with pytest.raises(DataError, match=f"{reason}|not an image|no picture") as caught:  # as Pillow says of some
            read(path)
        assert len(caught.value.problems) == 1


def test_windows_of_a_raster_stored_in_one_giant_tile_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8) + page(65_520, tile=65_520))
    with (
        pytest.raises(DataError, match=r"a\.tif: stored in blocks of 65520x65520 pixels.*TILED=YES"),
        opened_raster(path, RGB8),
    ):
        pass
    path.write_bytes(circle(3))
    with pytest.raises(DataError, match="form a circle"), opened_raster(path, RGB8):
        pass


def test_headers_of_whole_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    for bigtiff in (False, True):
        for order in "<>":
            path = tmp_path / "a.tif"
            tifffile.imwrite(
                path, bands(5, np.uint16), photometric="minisblack", byteorder=order, bigtiff=bigtiff, tile=(16, 32)
            )
            header = read_tiff_header(path)
            assert header is not None
            assert (header.size, header.channels, header.bits, header.block) == (SIZE, 5, 16, (16, 32))
            assert header.pages == (0, 1, 2, 3, 4)
    (tmp_path / "b.tif").write_bytes(path.read_bytes()[:-1] + b"x")
    assert read_tiff_header(tmp_path / "b.tif") is not None
    assert read_tiff_header(tmp_path / "absent.tif") is None


@pytest.mark.parametrize("holes", [False, True])
def test_few_of_16_bits_are_told_of_whole_files_and_of_windows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, holes: bool
) -> None:
    stored = bands(3, np.uint16, 3000)
    stored[:, :9] = 0 if holes else 1
    path = write(tmp_path / "a.tif", stored, nodata=0 if holes else None, **PLACE)
    assert 2700 < (RGB8.highest_of_16_bits(RGB8.read(path), RGB8.kind(path)) or 0) < 3100
    with opened_raster(path, RGB8) as raster:
        raster.tile(*[Span(0, size, 0, size, np.ones(1)) for size in raster.size])
        assert 2700 < raster.highest < 3100
    warn_of_dark([path], RGB8)
    assert "data.value_range=[0, 4095]" in caplog.text
    caplog.clear()
    warn_of_dark([path], PixelFormat(3, (0.0, 65535.0)))
    warn_of_dark([write(tmp_path / "b.tif", bands(3, np.uint16, 40_000))], RGB8)
    assert not caplog.text


def test_bigtiffs_of_either_byte_order_are_pictures(tmp_path: Path) -> None:
    """Pillow takes those with the highest byte first for no image."""
    stored = bands(3).transpose(1, 2, 0)
    for order in "<>":
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, stored, bigtiff=True, byteorder=order, photometric="rgb")
        assert RGB8.size(path) == SIZE
        np.testing.assert_array_equal(RGB8.read(path), stored)
