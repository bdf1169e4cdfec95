"""Reading and writing of image and mask files: every kind of file that people have."""

import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from segzoo.data.datasets.voc import LABELS as VOC
from segzoo.data.reading.images import image_size, read_image, write_image
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.masks import mask_size, read_color_mask, read_mask, write_mask
from segzoo.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GRAY = RGB[..., 0]
INDICES = np.array([[0, 1, 2, 15], [255, 2, 1, 0]], np.uint8)

# How a file with this orientation stores an upright picture (the inverse of what a viewer does).
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def repeated(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[..., None], 3, axis=2)


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    Image.fromarray(array, mode).save(path, **options) if mode else Image.fromarray(array).save(path, **options)
    return path


def png(path: Path, width: int, height: int, depth: int, color: int, rows: bytes) -> Path:
    """A PNG by hand, for what Pillow does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp", ".ppm"])
def test_lossless_rgb_is_read_as_it_is(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", RGB, **({"lossless": True} if suffix == ".webp" else {}))
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, RGB)
    assert image_size(path) == (5, 7)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    stored = Image.fromarray(RGB)
    if STORED[orientation] is not None:
        stored = stored.transpose(STORED[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    stored.save(path, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    np.testing.assert_array_equal(read_image(path), RGB)
    assert image_size(path) == (5, 7)


@pytest.mark.parametrize("orientation", STORED)
def test_orientation_of_a_jpeg_is_applied(tmp_path: Path, orientation: int) -> None:
    smooth = np.zeros((32, 48, 3), np.uint8)
    smooth[:16, :24] = 250
    stored = Image.fromarray(smooth)
    if STORED[orientation] is not None:
        stored = stored.transpose(STORED[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=100)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - smooth).max() < 8
    assert image_size(tmp_path / "a.jpg") == (32, 48)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_broken_exif_does_not_matter(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", RGB, exif=b"Exif\0\0nonsense")
    assert read_image(path).shape == RGB.shape
    assert image_size(path) == (5, 7)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_gray_is_divided_by_257(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", GRAY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(path), repeated(GRAY))


def test_16_bit_pgm_is_divided_by_257(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 7 5 65535\n" + (GRAY.astype(">u2") * 257).tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.pgm"), repeated(GRAY))


def test_16_bit_colour_keeps_8_bits(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in RGB.astype(">u2") * 257)
    np.testing.assert_array_equal(read_image(png(tmp_path / "a.png", 7, 5, 16, 2, rows)), RGB)


def test_gray_and_one_bit_are_repeated(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(save(tmp_path / "l.png", GRAY)), repeated(GRAY))
    bits = GRAY > 127
    np.testing.assert_array_equal(read_image(save(tmp_path / "1.png", bits)), repeated(bits * np.uint8(255)))


def test_palette_pictures_show_their_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(INDICES % 3)
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.save(tmp_path / "a.png")
    colors = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colors[INDICES % 3])


def test_transparent_palette_entries_show_mid_gray(tmp_path: Path) -> None:
    picture = Image.fromarray(INDICES % 3)
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.save(tmp_path / "a.png", transparency=1)
    colors = np.array([[10, 20, 30], [128, 128, 128], [70, 80, 90]], np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colors[INDICES % 3])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_lies_over_mid_gray(tmp_path: Path, suffix: str) -> None:
    alpha = np.full((5, 7, 1), 255, np.uint8)
    alpha[0], alpha[1] = 0, 128
    path = tmp_path / f"a{suffix}"
    save(path, np.concatenate([RGB, alpha], 2), **({"lossless": True, "exact": True} if suffix == ".webp" else {}))
    image = read_image(path).astype(int)
    assert (image[0] == 128).all()
    assert np.abs(image[1] - (RGB[1] * (128 / 255) + 128 * (127 / 255))).max() <= 1
    np.testing.assert_array_equal(image[2:], RGB[2:])


def test_gray_with_alpha_lies_over_mid_gray(tmp_path: Path) -> None:
    alpha = np.full((5, 7), 255, np.uint8)
    alpha[0] = 0
    picture = Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(alpha)])
    picture.save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image[0] == 128).all()
    np.testing.assert_array_equal(image[1:], repeated(GRAY)[1:])


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    colors = np.zeros((32, 32, 3), np.uint8)
    colors[:16] = (200, 40, 90)
    Image.fromarray(colors).convert("CMYK").save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), colors)
    Image.fromarray(colors).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - colors).mean() < 4


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_extreme_shapes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = save(tmp_path / "a.png", np.full((*size, 3), 7, np.uint8))
    assert read_image(path).shape == (*size, 3)


def test_floating_point_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.tif: floating-point"):
        read_image(save(tmp_path / "a.tif", GRAY.astype(np.float32)))


def damaged_files(folder: Path) -> dict[str, str]:
    """Damaged files by name, each with a word the message must hold."""
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole_png = save(folder / "whole.png", noise).read_bytes()
    whole_jpg = save(folder / "whole.jpg", noise).read_bytes()
    wrong_data, wrong_crc = bytearray(whole_png), bytearray(whole_png)
    wrong_data[whole_png.index(b"IDAT") + 40] ^= 1
    wrong_crc[whole_png.index(b"IEND") - 5] ^= 1  # the last byte of the pixels' checksum
    content = {
        "cut.png": (whole_png[: len(whole_png) // 2], "unreadable"),
        "cut.jpg": (whole_jpg[: len(whole_jpg) // 2], "truncated"),
        "crc.png": (bytes(wrong_crc), "checksum"),
        "data.png": (bytes(wrong_data), "checksum"),
        "empty.png": (b"", "empty"),
        "text.jpg": (b"this is no picture\n" * 20, "not an image"),
        "header.png": (whole_png[:20], "unreadable|not an image"),
    }
    for name, (data, _) in content.items():
        (folder / name).write_bytes(data)
    return {name: word for name, (_, word) in content.items()}


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    for name, word in damaged_files(tmp_path).items():
        for read in (read_image, read_mask):
            with pytest.raises(DataError) as caught:
                read(tmp_path / name)
            (line,) = caught.value.problems
            assert name in line
            assert "\n" not in line
        with pytest.raises(DataError, match=word):
            read_image(tmp_path / name)


def test_missing_files_folders_and_pipes_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.png: no such file"):
        read_image(tmp_path / "no.png")
    with pytest.raises(DataError, match="not a regular file"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png: not a regular file"):
        read_image(tmp_path / "pipe.png")


def test_a_giant_header_is_refused_before_decoding(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", 20_000, 20_000, 8, 2, b"")
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"a\.png: 20000x20000 pixels are more than the limit"):
        read_image(path)
    assert time.perf_counter() - start < 1


def test_the_pixel_limit_is_exact_and_can_be_raised(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", RGB)
    assert read_image(path, max_pixels=35).shape == (5, 7, 3)
    with pytest.raises(DataError, match="limit of 34"):
        read_image(path, max_pixels=34)
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(DataError, match="unreadable|truncated"):  # past the limit: now the decoder complains
        read_image(png(tmp_path / "b.png", 20_000, 10_000, 1, 0, b""), max_pixels=10**9)
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_masks_are_indices_never_luminance(tmp_path: Path, bits: int) -> None:
    indices = INDICES & np.uint8(2**bits - 1)
    picture = Image.fromarray(indices)
    picture.putpalette(VOC.flat_palette())
    picture.save(tmp_path / "a.png", bits=bits)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), indices)


@pytest.mark.parametrize(("bits", "stretch"), [(1, 255), (2, 85), (4, 17)])
def test_gray_masks_of_few_bits_are_the_stored_numbers(tmp_path: Path, bits: int, stretch: int) -> None:
    numbers = np.arange(8, dtype=np.uint8).reshape(1, 8) % 2**bits
    packed = np.packbits(np.unpackbits(numbers.reshape(8, 1), axis=1)[:, 8 - bits :]).tobytes()
    path = png(tmp_path / "a.png", 8, 1, bits, 0, b"\0" + packed)
    np.testing.assert_array_equal(read_mask(path), numbers)
    np.testing.assert_array_equal(read_image(path), repeated(numbers * stretch))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_gray_masks_are_the_stored_numbers(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", INDICES)
    np.testing.assert_array_equal(read_mask(path), INDICES)
    assert mask_size(path) == (2, 4)


def test_16_and_1_bit_masks(tmp_path: Path) -> None:
    ids = INDICES.astype(np.uint16) * 130
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", ids)), ids)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "b.tif", ids)), ids)
    bits = read_mask(save(tmp_path / "c.png", INDICES > 1))
    assert bits.dtype == np.uint8
    np.testing.assert_array_equal(bits, INDICES > 1)


@pytest.mark.parametrize("white", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("kind", ["bool", "uint8", "uint16", "float32"])
def test_tiff_masks_are_the_stored_numbers_wherever_white_is(tmp_path: Path, kind: str, white: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, INDICES.astype(kind), photometric=white)
    mask = read_mask(path)
    assert np.issubdtype(mask.dtype, np.integer)
    np.testing.assert_array_equal(mask, tifffile.imread(path))


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "float32"])
def test_negative_numbers_in_masks_stay_negative(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.array([[-1, 0, 1, 100]], kind))
    assert read_mask(path).tolist() == [[-1, 0, 1, 100]]


@pytest.mark.parametrize(("value", "words"), [(0.5, "such as 0.5"), (np.nan, "such as nan"), (3e9, "such as 3e")])
def test_floating_point_masks_of_no_whole_numbers_are_refused(tmp_path: Path, value: float, words: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 1, value]], np.float32))
    with pytest.raises(DataError, match=rf"a\.tif: 1 px .* no whole numbers, {words}.*data\.folder\.ignore_value"):
        read_mask(tmp_path / "a.tif")


@pytest.mark.parametrize("largest", [2, 3, 20, 255, 1000, 65535])
def test_pgm_masks_are_the_stored_numbers_whatever_their_largest(tmp_path: Path, largest: int) -> None:
    numbers = np.unique(np.linspace(0, largest, 200).astype(int))
    text = f"P2\n{len(numbers)} 1\n{largest}\n{' '.join(map(str, numbers))}\n"
    (tmp_path / "a.pgm").write_text(text)
    assert read_mask(tmp_path / "a.pgm").tolist() == [numbers.tolist()]
    packed = numbers.astype(">u2" if largest > 255 else np.uint8).tobytes()
    (tmp_path / "b.pgm").write_bytes(f"P5\n{len(numbers)} 1\n{largest}\n".encode() + packed)
    assert read_mask(tmp_path / "b.pgm").tolist() == [numbers.tolist()]


def test_a_mask_of_64_bits_is_refused_with_those_to_take(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", INDICES.astype(np.float64))
    with pytest.raises(DataError, match=r"a\.tif: a TIFF of 64-bit numbers, 1 a pixel.*8, 16 or 32 bits"):
        read_mask(tmp_path / "a.tif")


def test_a_jpeg_inside_a_tiff_is_refused_as_a_mask(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.zeros((16, 16), np.uint8), compression="jpeg")
    with pytest.raises(DataError, match="a JPEG cannot be a mask"):
        read_mask(path)


def test_a_transparent_palette_entry_keeps_its_colour_in_a_mask(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1, 1]], np.uint8))
    picture.putpalette([9, 8, 7, 1, 2, 3])
    picture.save(tmp_path / "a.png", transparency=0)
    assert read_color_mask(tmp_path / "a.png").tolist() == [[0x090807, 0x010203, 0x010203]]
    picture.putpalette([1, 2, 3, 1, 2, 3])  # as an opaque one
    picture.save(tmp_path / "a.png", transparency=0)
    with pytest.raises(DataError, match="transparent pixels have no colour"):
        read_color_mask(tmp_path / "a.png")


@pytest.mark.parametrize("read", [read_mask, mask_size])
def test_coloured_and_jpeg_masks_are_refused_with_a_hint(tmp_path: Path, read: object) -> None:
    with pytest.raises(DataError, match=r"a\.png: RGB picture.*indexed PNG"):
        read(save(tmp_path / "a.png", RGB))  # type: ignore[operator]
    with pytest.raises(DataError, match=r"a\.jpg: a JPEG cannot be a mask.*use PNG"):
        read(save(tmp_path / "a.jpg", GRAY))  # type: ignore[operator]


def test_masks_are_written_as_8_bit_indexed_png(tmp_path: Path) -> None:
    labels = LabelSpace.from_names(["a", "b"])  # few colours tempt Pillow to write 1 bit
    mask = np.array([[0, 1, 255]])
    write_mask(tmp_path / "a.png", mask, labels.flat_palette())
    with Image.open(tmp_path / "a.png") as picture:
        assert (picture.mode, picture.size) == ("P", (3, 1))
        assert picture.getpalette()[3:6] == [128, 0, 0]
        assert (tmp_path / "a.png").read_bytes()[24] == 8  # bit depth in the header
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), mask)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("value", [-1, 256])
def test_masks_that_do_not_fit_are_refused(tmp_path: Path, value: int) -> None:
    with pytest.raises(DataError, match="do not fit"):
        write_mask(tmp_path / "a.png", np.array([[0, value]]), VOC.flat_palette())
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.png", RGB)
    before = (tmp_path / "a.png").read_bytes()

    def full_disk(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_image(tmp_path / "a.png", RGB[::-1])
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_images_are_written_by_suffix(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)
    write_image(tmp_path / "b.jpg", RGB)
    assert image_size(tmp_path / "b.jpg") == (5, 7)
    with pytest.raises(DataError, match="cannot write"):
        write_image(tmp_path / "c.xyz", RGB)
