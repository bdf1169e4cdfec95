"""Which images a folder holds, and what their predictions are called."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from segzoo.data.images import IMAGE_SUFFIXES
from segzoo.errors import ConfigError


def list_images(source: Path, *, without: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Regular image files at or below `source`, relative to it, sorted; links to folders are not followed.

    Args:
        source: a file or a folder.
        without: a folder whose content is left out, such as the output inside the input.
        suffixes: of image files.

    Raises:
        ConfigError: nothing there.
    """
    if source.is_file():
        return [Path(source.name)]
    if not source.is_dir():
        raise ConfigError(f"{source}: no such file or folder.")
    found = []
    for folder, subfolders, files in os.walk(source, followlinks=False):
        subfolders[:] = [name for name in subfolders if Path(folder, name).resolve() != without.resolve()]
        found += [Path(folder, name) for name in files if _is_image(Path(folder, name), suffixes)]
    if not found:
        raise ConfigError(f"{source}: no images in this folder ({', '.join(sorted(suffixes))}).")
    return sorted(path.relative_to(source) for path in found)


def mask_names(images: Sequence[Path]) -> dict[Path, Path]:
    """Image -> mask, both relative: the same tree, `<stem>.png`.

    Where images would share a name, ignoring case, all of them become `<stem>_<ext>.png`; a remaining clash
    adds a short hash of the path. Computed over the whole listing, so that shards agree.

    >>> list(mask_names([Path("a.jpg"), Path("a.png"), Path("sub/a.jpg")]).values())
    [PosixPath('a_jpg.png'), PosixPath('a_png.png'), PosixPath('sub/a.png')]
    """
    names = {image: image.with_name(f"{image.stem}.png") for image in images}
    clashing = _clashing(names)
    names |= {image: _with_extension(image) for image in clashing}
    names |= {image: _with_hash(image) for image in _clashing(names)}
    return names


def _clashing(names: dict[Path, Path]) -> list[Path]:
    counts = Counter(str(name).casefold() for name in names.values())
    return [image for image, name in names.items() if counts[str(name).casefold()] > 1]


def _with_extension(image: Path) -> Path:
    return image.with_name(f"{image.stem}_{image.suffix.removeprefix('.')}.png")


def _with_hash(image: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(image)).hexdigest()[:8]
    return image.with_name(f"{image.stem}_{image.suffix.removeprefix('.')}_{digest}.png")


def _is_image(path: Path, suffixes: Collection[str]) -> bool:
    """A regular file (a FIFO would block) with an image's suffix; unreadable ones are kept and reported later."""
    if path.suffix.lower() not in suffixes:
        return False
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True
