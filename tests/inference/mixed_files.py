"""Files of every kind that people have in folders: good ones, with what they should become, and bad ones."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

ORIENTATION = 0x0112


def picture(seed: int, height: int = 24, width: int = 34) -> np.ndarray:
    """A smooth random RGB picture, in which neither axis nor direction is like another."""
    random = np.random.default_rng(seed)
    rough = random.integers(0, 256, (4, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC))


def gray(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb).convert("L"))


def repeated(channel: np.ndarray) -> np.ndarray:
    return np.stack([channel] * 3, axis=2)


def over_gray(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Alpha over mid-gray, in floating point; Pillow's own rounding is at most one level off."""
    share = alpha[..., None] / 255
    return np.rint(rgb * share + 128 * (1 - share)).astype(np.uint8)


def write_gray16(path: Path, rgb: np.ndarray) -> np.ndarray:
    values = gray(rgb).astype(np.uint16) * 257 + 100
    values = np.minimum(values, 65535).astype(np.uint16)
    Image.fromarray(values).save(path)
    return repeated(np.rint(values / 257).astype(np.uint8))


def write_palette(path: Path, rgb: np.ndarray) -> np.ndarray:
    image = Image.fromarray(rgb).quantize(40)
    image.save(path)
    return np.asarray(image.convert("RGB"))


def write_bilevel(path: Path, rgb: np.ndarray) -> np.ndarray:
    bits = gray(rgb) > 120
    Image.fromarray(bits).save(path)
    return repeated(bits.astype(np.uint8) * 255)


def write_alpha(path: Path, rgb: np.ndarray) -> np.ndarray:
    alpha = np.where(gray(rgb) > 100, 255, 0).astype(np.uint8)  # where both roundings agree
    Image.fromarray(np.dstack([rgb, alpha])).save(path)
    return over_gray(rgb, alpha)


def write_gray_alpha(path: Path, rgb: np.ndarray) -> np.ndarray:
    alpha = np.where(gray(rgb) > 100, 255, 0).astype(np.uint8)
    Image.fromarray(np.dstack([gray(rgb), alpha]), "LA").save(path)
    return over_gray(repeated(gray(rgb)), alpha)


def lossless(path: Path, rgb: np.ndarray) -> np.ndarray:
    Image.fromarray(rgb).save(path, **({"lossless": True} if path.suffix == ".webp" else {}))
    return rgb


def lossy(path: Path, rgb: np.ndarray) -> np.ndarray:
    Image.fromarray(rgb).save(path, quality=90)
    return np.asarray(Image.open(path).convert("RGB"))


def write_gray(path: Path, rgb: np.ndarray) -> np.ndarray:
    Image.fromarray(gray(rgb)).save(path)
    return repeated(gray(rgb))


def write_cmyk(path: Path, rgb: np.ndarray) -> np.ndarray:
    Image.fromarray(rgb).convert("CMYK").save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return np.asarray(Image.open(path).convert("RGB"))


def exif(orientation: int) -> Callable[[Path, np.ndarray], np.ndarray]:
    """A JPEG whose EXIF says how to turn it; written out as array operations, from the standard's table."""
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[:, ::-1],
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a.swapaxes(0, 1)[::-1],
    }

    def write(path: Path, rgb: np.ndarray) -> np.ndarray:
        tags = Image.Exif()
        tags[ORIENTATION] = orientation
        Image.fromarray(rgb).save(path, quality=90, exif=tags)
        return np.ascontiguousarray(turns[orientation](np.asarray(Image.open(path).convert("RGB"))))

    return write


GOOD: dict[str, Callable[[Path, np.ndarray], np.ndarray]] = {
    "rgb.png": lossless,
    "rgb.bmp": lossless,
    "rgb.tif": lossless,
    "rgb.webp": lossless,
    "rgb.ppm": lossless,
    "photo.jpg": lossy,
    "photo.webp": lossy,
    "gray.png": write_gray,
    "gray.jpg": lambda path, rgb: (write_gray(path, rgb), np.asarray(Image.open(path).convert("RGB")))[1],
    "gray16.png": write_gray16,
    "gray16.tif": write_gray16,
    "palette.png": write_palette,
    "palette.gif": write_palette,
    "bilevel.png": write_bilevel,
    "bilevel.tif": write_bilevel,
    "alpha.png": write_alpha,
    "gray_alpha.png": write_gray_alpha,
    "cmyk.jpg": write_cmyk,
    "cmyk.tif": write_cmyk,
    **{f"exif{orientation}.jpg": exif(orientation) for orientation in range(1, 9)},
}
"""Name -> writes the file, and gives the upright 8-bit RGB picture that it means."""


def huge_header(path: Path) -> None:
    """A PNG of 20,000×20,000 pixels in 60 bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def truncated(path: Path) -> None:
    Image.fromarray(picture(1, 60, 60)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bad_checksum(path: Path) -> None:
    Image.fromarray(picture(2)).save(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 30] ^= 1
    path.write_bytes(content)


BAD: dict[str, Callable[[Path], None]] = {
    "cut.jpg": truncated,
    "cut.png": truncated,
    "empty.png": Path.touch,
    "empty.jpg": Path.touch,
    "text.jpg": lambda path: path.write_text("no image"),
    "checksum.png": bad_checksum,
    "huge.png": huge_header,
    "dangling.png": lambda path: path.symlink_to(path.with_name("nowhere.png")),
    "circle.png": lambda path: path.symlink_to(path),
}


def mixed_folder(folder: Path, count: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Fill a folder and its subfolders.

    Returns:
        What the good files mean, and the names of the bad ones, as reports name them.
    """
    good: dict[str, np.ndarray] = {}
    bad = []
    for number in range(count):
        sub = folder / ("" if number % 3 == 0 else f"sub{number % 3}/deeper")
        sub.mkdir(parents=True, exist_ok=True)
        kinds = [*GOOD, *BAD]
        name = kinds[number % len(kinds)]
        path = sub / f"{number:03d}_{name}"
        if name in GOOD:
            good[str(path.relative_to(folder))] = GOOD[name](path, picture(number, 24 + number % 5, 34 - number % 3))
        else:
            BAD[name](path)
            bad.append(str(path.relative_to(folder)))
    for name in ("clash.jpg", "clash.png", "CLASH.JPG"):
        good[name] = lossy(folder / name, picture(900)) if "png" not in name else lossless(folder / name, picture(901))
    good["one.png"] = lossless(folder / "one.png", picture(902, 1, 1))
    good["line.png"] = lossless(folder / "line.png", picture(903, 1, 5000))
    strange = os.fsdecode(b"caf\xe9.png")  # Latin-1 bytes, no UTF-8
    good["caf\\xe9.png"] = lossless(folder / strange, picture(904))
    os.mkfifo(folder / "pipe.png")
    (folder / "sub1" / "loop").symlink_to(folder)
    (folder / "notes.txt").write_text("not listed")
    return good, bad
