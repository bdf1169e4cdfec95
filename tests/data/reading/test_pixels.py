"""Images of any number of channels and any range of values."""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segzoo.config.schema import DataConfig, Preprocessing
from segzoo.data import build_dataset
from segzoo.data.reading.pixels import RGB8, PixelFormat, as_picture
from segzoo.data.transforms.preprocessing import normalize
from segzoo.errors import ConfigError, DataError

BANDS = np.random.default_rng(0).integers(0, 65536, (5, 7, 6), dtype=np.uint16)
RGB = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def by_formula(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)


def saved(path: Path, values: np.ndarray) -> Path:
    np.save(path, values)
    return path


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_16_bit_arrays_by_their_full_range(tmp_path: Path, channels: int) -> None:
    pixels = PixelFormat(channels).read(saved(tmp_path / "a.npy", BANDS[..., :channels]))
    assert pixels.dtype == np.float32
    assert pixels.shape == (5, 7, channels)
    np.testing.assert_allclose(pixels, BANDS[..., :channels] / 65535, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_a_stated_range_holds_for_every_type(tmp_path: Path, dtype: type[np.generic]) -> None:
    values = (BANDS[..., :4] % 120).astype(dtype)
    pixels = PixelFormat(4, (20.0, 100.0)).read(saved(tmp_path / "a.npy", values))
    np.testing.assert_allclose(pixels, by_formula(values, 20, 100), atol=1e-6)
    assert (pixels.min(), pixels.max()) == (0, 1)


def test_one_channel_needs_no_axis(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", BANDS[..., 0])
    np.testing.assert_allclose(PixelFormat(1).read(path)[..., 0], BANDS[..., 0] / 65535, atol=1e-7)
    assert PixelFormat(1).size(path) == (5, 7)


@pytest.mark.parametrize("layout", ["last", "planes", "pages"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
def test_tiffs_of_many_channels(tmp_path: Path, layout: str, compression: str | None) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    path = tmp_path / "a.tif"
    planes = np.ascontiguousarray(BANDS.transpose(2, 0, 1))
    if layout == "last":
        tifffile.imwrite(path, BANDS, photometric="minisblack", planarconfig="contig", compression=compression)
    elif layout == "planes":
        tifffile.imwrite(path, planes, photometric="minisblack", planarconfig="separate", compression=compression)
    else:
        tifffile.imwrite(path, planes, photometric="minisblack", compression=compression)
    np.testing.assert_allclose(PixelFormat(6).read(path), BANDS / 65535, atol=1e-7)
    assert PixelFormat(6).size(path) == (5, 7)


def test_a_tiff_as_high_as_it_has_channels(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    cube = np.random.default_rng(2).integers(0, 256, (4, 4, 4), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", cube, photometric="minisblack", planarconfig="contig")
    np.testing.assert_allclose(PixelFormat(4).read(tmp_path / "a.tif"), cube / 255, atol=1e-7)
    tifffile.imwrite(
        tmp_path / "b.tif", cube.transpose(2, 0, 1).copy(), photometric="minisblack", planarconfig="separate"
    )
    np.testing.assert_allclose(PixelFormat(4).read(tmp_path / "b.tif"), cube / 255, atol=1e-7)


def test_a_tiff_without_the_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", BANDS, photometric="minisblack", planarconfig="contig")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ConfigError, match=r"a\.tif: .*pip install tifffile imagecodecs"):
        PixelFormat(6).read(tmp_path / "a.tif")


def test_rgba_and_gray_pictures_as_they_are_stored(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, RGB[..., :1]])
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    np.testing.assert_allclose(PixelFormat(4).read(tmp_path / "rgba.png"), rgba / 255, atol=1e-7)
    Image.fromarray(RGB[..., 0]).save(tmp_path / "gray.png")
    np.testing.assert_allclose(PixelFormat(1).read(tmp_path / "gray.png")[..., 0], RGB[..., 0] / 255, atol=1e-7)
    Image.fromarray(BANDS[..., 0]).save(tmp_path / "gray16.png")
    np.testing.assert_allclose(PixelFormat(1).read(tmp_path / "gray16.png")[..., 0], BANDS[..., 0] / 65535, atol=1e-7)


def test_three_channels_with_a_range_repeat_gray(tmp_path: Path) -> None:
    Image.fromarray(BANDS[..., 0]).save(tmp_path / "a.png")
    pixels = PixelFormat(3, (0.0, 4095.0)).read(tmp_path / "a.png")
    np.testing.assert_allclose(pixels, np.dstack([by_formula(BANDS[..., 0], 0, 4095)] * 3), atol=1e-6)
    np.testing.assert_allclose(PixelFormat(3, (0.0, 255.0)).read(saved(tmp_path / "b.npy", RGB)), RGB / 255, atol=1e-7)


def test_ordinary_pictures_stay_8_bit(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    pixels = RGB8.read(tmp_path / "a.png")
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, RGB)
    assert ".npy" not in RGB8.suffixes
    assert ".npy" in PixelFormat(4).suffixes


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("shape", np.zeros((5, 7, 3), np.uint8), r"shape \(5, 7, 3\), where \(H, W, C\) with 4 channels"),
        ("first", np.zeros((4, 5, 7), np.uint8), r"shape \(4, 5, 7\), where"),
        ("empty", np.zeros((0, 7, 4), np.uint8), r"shape \(0, 7, 4\)"),
        ("gray", np.zeros((5, 7), np.uint8), "1 channels where 4 belong"),
        ("float", np.zeros((5, 7, 4), np.float32), r"float32 values, .*state it: data\.value_range"),
        ("objects", np.array([[{}]], object), "damaged or unreadable"),
    ],
)
def test_other_arrays_are_refused_by_name(tmp_path: Path, name: str, values: np.ndarray, message: str) -> None:
    np.save(tmp_path / f"{name}.npy", values, allow_pickle=True)
    with pytest.raises(DataError, match=rf"{name}\.npy: .*{message}"):
        PixelFormat(4).read(tmp_path / f"{name}.npy")


def test_damaged_missing_and_large_files_are_refused_by_name(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.npy", BANDS).read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.tif").write_text("this is no picture")
    (tmp_path / "none.npy").write_bytes(b"")
    for name in ("cut.npy", "text.tif", "none.npy", "missing.npy"):
        with pytest.raises(DataError, match=name):
            PixelFormat(6).read(tmp_path / name)
    with pytest.raises(DataError, match=r"a\.npy: 7x5 pixels are more than the limit of 34"):
        PixelFormat(6).read(tmp_path / "a.npy", max_pixels=34)


def test_infinite_values_are_counted(tmp_path: Path) -> None:
    values = np.zeros((5, 7, 4), np.float32)
    values[0, :2, 0], values[1, 0, 3] = -np.inf, np.inf
    with pytest.raises(DataError, match=r"a\.npy: 3 values are infinite"):
        PixelFormat(4, (0.0, 1.0)).read(saved(tmp_path / "a.npy", values))


def test_what_is_not_a_number_is_gray_and_ignored(tmp_path: Path) -> None:
    values = np.full((5, 7, 4), 0.25, np.float32)
    values[0, :2], values[1, 0, 3] = np.nan, np.nan
    path, pixels = saved(tmp_path / "a.npy", values), PixelFormat(4, (0.0, 1.0))
    np.testing.assert_array_equal(pixels.read(path), np.where(np.isnan(values), np.float32(0.5), values))
    lost = pixels.lost(path)
    assert lost is not None
    assert np.argwhere(lost).tolist() == [[0, 0], [0, 1]]
    assert pixels.lost(saved(tmp_path / "b.npy", values[2:])) is None


def deep_file(path: Path, bands: np.ndarray, largest: int = 65535) -> Path:
    """A 16-bit PNG, PPM or PGM by hand, of 1 to 4 channels."""
    height, width, channels = bands.shape
    body = bands.astype(">u2")
    if path.suffix != ".png":
        path.write_bytes(f"P{5 if channels == 1 else 6} {width} {height} {largest}\n".encode() + body.tobytes())
        return path
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in body))), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


@pytest.mark.parametrize(
    ("name", "channels", "largest"),
    [(f"{channels}.png", channels, 65535) for channels in (1, 2, 3, 4)]
    + [("3.ppm", 3, 65535), ("1.pgm", 1, 65535), ("12_bits.ppm", 3, 4095), ("12_bits.pgm", 1, 4095)],
)
def test_all_bits_of_deep_pictures_count(tmp_path: Path, name: str, channels: int, largest: int) -> None:
    stored = np.minimum(BANDS[..., :channels], largest)
    path = deep_file(tmp_path / name, stored, largest)
    np.testing.assert_allclose(PixelFormat(channels, (0.0, 4095.0)).read(path), by_formula(stored, 0, 4095), atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_pictures_are_turned_as_pillow_turns_shallow_ones(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "shallow.png", exif=exif)
    chunks = (tmp_path / "shallow.png").read_bytes()
    begin = chunks.index(b"eXIf") - 4
    length = 12 + struct.unpack(">I", chunks[begin : begin + 4])[0]
    deep = deep_file(tmp_path / "deep.png", RGB.astype(np.uint16) * 257).read_bytes()
    end = deep.index(b"IDAT") - 4
    (tmp_path / "deep.png").write_bytes(deep[:end] + chunks[begin : begin + length] + deep[end:])
    expected = RGB8.read(tmp_path / "shallow.png") / 255
    np.testing.assert_allclose(PixelFormat(3, (0.0, 65535.0)).read(tmp_path / "deep.png"), expected, atol=1e-6)


def test_pictures_to_look_at() -> None:
    assert as_picture(RGB).tolist() == RGB.tolist()
    shown = as_picture((RGB / np.float32(255)).astype(np.float32))
    np.testing.assert_array_equal(shown, RGB)
    many = np.dstack([RGB, RGB]) / np.float32(255)
    np.testing.assert_array_equal(as_picture(many.astype(np.float32)), RGB)
    np.testing.assert_array_equal(as_picture(RGB[..., :1]), np.dstack([RGB[..., 0]] * 3))


def test_floats_are_normalised_as_the_same_8_bits_are() -> None:
    images = torch.from_numpy(RGB.transpose(2, 0, 1)[None].copy())
    settings = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    torch.testing.assert_close(normalize(images / 255, settings), normalize(images, settings))


def test_a_folder_of_arrays(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    np.save(tmp_path / "train/images/a.npy", BANDS)
    Image.fromarray(np.full((5, 7), 1, np.uint8)).save(tmp_path / "train/masks/a.png")
    config = DataConfig(name="folder", root=str(tmp_path), channels=6, classes=("a", "b"), value_range=(0.0, 10000.0))
    sample = build_dataset(config, "train")[0]
    np.testing.assert_allclose(sample.image, by_formula(BANDS, 0, 10000), atol=1e-6)
    Image.fromarray(np.full((7, 5), 1, np.uint8)).save(tmp_path / "train/masks/a.png")
    with pytest.raises(DataError, match=r"a\.png: mask is 7x5 but its image a\.npy 5x7"):
        build_dataset(config, "train")
    with pytest.raises(DataError, match="no images"):
        build_dataset(DataConfig(name="folder", root=str(tmp_path)), "train")
