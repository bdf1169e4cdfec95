"""What the benchmarks' servers take: the masks of a split, packed, and read back before anybody uploads them."""

import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segzoo.checkpoint.read import find_checkpoint, load_segmenter
from segzoo.config.schema import DataConfig
from segzoo.data.datasets import cityscapes, voc
from segzoo.data.datasets.spec import dataset_root, how_to_get
from segzoo.data.datasets.splits import read_split_list
from segzoo.data.reading.images import image_size, write_image
from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.masks import write_mask
from segzoo.errors import ConfigError, DataError, did_you_mean, first_line
from segzoo.evaluation.evaluator import Job, changed_config, default_output
from segzoo.evaluation.mask_evaluator import CHANGEABLE, build_predictor
from segzoo.files import check_outputs, make_output
from segzoo.models.agreement import Precision
from segzoo.models.networks import warn_of_other_stride
from segzoo.progress import counted

CITYSCAPES_SIZE = (1024, 2048)

_VOC_FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"


@dataclass(frozen=True)
class Benchmark:
    """What a server takes.

    Args:
        labels: the classes that a network must have.
        images: where the images of a split lie, by the mask's name in the archive.
        values: what stands in a mask for each class.
        palette: 256 colours in a row, for indexed masks; None for gray ones.
        size: height and width that every image must have; None for any.
        suffix: of the archive.
    """

    labels: LabelSpace
    images: Callable[[DataConfig, str], dict[str, Path]]
    values: tuple[int, ...]
    palette: tuple[int, ...] | None
    size: tuple[int, int] | None
    suffix: str


def submit(
    kind: str,
    checkpoint: str | Path,
    overrides: Sequence[str] = (),
    *,
    split: str | None = None,
    output: str | Path | None = None,
    averaged: bool = True,
    engine: str = "torch",
    precision: Precision = "fp32",
    overwrite: bool = False,
) -> tuple[Path, int]:
    """Segment a split of a benchmark and pack the masks as its server takes them; then read the archive back.

    The masks of the split are not needed. All arguments but the first are those of `evaluate`; without `split` it is
    the test split.

    Returns:
        The archive, and how many masks are in it.

    Source: VOC: the VOC2012 development kit's documentation, section 5.3, indexed PNGs in the folder of competition 6,
        which allows any training data. Cityscapes: evalPixelLevelSemanticLabeling.py of cityscapesScripts, gray PNGs of
        label ids, named after the city, sequence and frame.

    Raises:
        ConfigError: no such benchmark, checkpoint or split, or a network with other classes.
        DataError: an image is damaged or of a wrong size, or the archive did not read back.
    """
    if kind not in BENCHMARKS:
        raise ConfigError(f"--submission: no benchmark '{kind}'. {did_you_mean(kind, BENCHMARKS)}")
    benchmark, split = BENCHMARKS[kind], split or "test"
    job = Job(find_checkpoint(checkpoint), tuple(overrides), split, averaged, engine, precision, boundary=False)
    source = load_segmenter(job.checkpoint, averaged=averaged)
    config = changed_config(source.config, overrides, CHANGEABLE)
    warn_of_other_stride(config.model)
    if not source.labels.is_like(benchmark.labels):
        raise ConfigError(
            f"--submission {kind}: needs its {benchmark.labels.num_classes} classes, one a pixel; {source.path} was "
            f"trained on {', '.join(source.labels.names)}."
        )
    images = benchmark.images(config.data, split)
    _check_sizes(images, benchmark)
    predictor = build_predictor(source, config, job)
    folder = Path(output) if output else default_output(job.checkpoint, split)
    archive = folder / f"{kind}_{split}{benchmark.suffix}"
    check_outputs([archive], overwrite=overwrite, inputs={image.parent for image in images.values()})
    make_output(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".submission_") as made:
        for name, image in counted(images.items(), len(images), "segmenting"):
            _write(Path(made, name), predictor(image).mask, benchmark)
        part = Path(made, archive.name)
        _pack(Path(made), images, part)
        check_submission(part, images, benchmark)
        part.replace(archive)
    return archive, len(images)


def check_submission(archive: Path, images: Mapping[str, Path], benchmark: Benchmark) -> None:
    """Read an archive back and compare it with what the server takes of images, by the masks' names in the archive.

    Raises:
        DataError: a mask is missing, unknown, or of another kind, size or values; one line each.
    """
    problems: list[str] = []
    seen: list[str] = []
    try:
        for name, content in _unpack(archive):
            seen.append(name)
            if name in images:
                problems += _mask_problems(name, content, images[name], benchmark)
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{archive}: did not read back ({first_line(error)})") from None
    problems += [f"{name}: missing" for name in images if name not in set(seen)]
    problems += [f"{name}: belongs to no image" for name in seen if name not in images]
    if len(seen) > len(set(seen)):
        problems.append("a name is there twice")
    if problems:
        raise DataError([f"{archive}: {problem}" for problem in problems])


def _mask_problems(name: str, content: bytes, image: Path, benchmark: Benchmark) -> Iterator[str]:
    with Image.open(io.BytesIO(content)) as mask:
        mode = "L" if benchmark.palette is None else "P"
        if (mask.format, mask.mode) != ("PNG", mode):
            yield f"{name}: {mask.format} of mode {mask.mode}, not PNG of mode {mode}"
            return
        if benchmark.palette is not None and tuple(mask.getpalette() or ()) != benchmark.palette:
            yield f"{name}: other colours"
        values = np.asarray(mask)
    if values.shape != image_size(image):
        yield f"{name}: {values.shape[0]}x{values.shape[1]}, not the size of {image}"
    if not np.isin(values, benchmark.values).all():
        yield f"{name}: holds values that are no class"


def _write(path: Path, mask: NDArray[np.uint8], benchmark: Benchmark) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.array(benchmark.values, np.uint8)[mask]
    if benchmark.palette is None:
        write_image(path, values)
    else:
        write_mask(path, values, benchmark.palette)


def _pack(folder: Path, names: Sequence[str] | Mapping[str, Path], archive: Path) -> None:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:  # PNGs are compressed already
            for name in names:
                packed.write(folder / name, name)
    else:
        with tarfile.open(archive, "w:gz", compresslevel=1) as packed_tar:
            for name in names:
                packed_tar.add(folder / name, name)


def _unpack(archive: Path) -> Iterator[tuple[str, bytes]]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            for name in packed.namelist():
                yield name, packed.read(name)
    else:
        with tarfile.open(archive) as packed_tar:
            for member in packed_tar:
                file = packed_tar.extractfile(member)
                yield member.name, file.read() if file else b""


def _check_sizes(images: Mapping[str, Path], benchmark: Benchmark) -> None:
    if benchmark.size is None:
        return
    wrong = [path for path in images.values() if image_size(path) != benchmark.size]
    if wrong:
        height, width = benchmark.size
        raise DataError(
            f"{len(wrong)} images are not {height}x{width}, such as {wrong[0]}. The server takes no other size."
        )


def _voc_images(config: DataConfig, split: str) -> dict[str, Path]:
    """The images that `ImageSets/Segmentation/<split>.txt` lists."""
    root = voc.voc_folder(config)
    listed = root / voc.LISTS / f"{split}.txt"
    if not listed.is_file():
        raise ConfigError(
            f"data.root: no {listed}, which lists the split. VOC's test images come from its evaluation server. "
            f"{how_to_get(config)}"
        )
    ids = [line.text for line in read_split_list(listed)]
    return _present({f"{_VOC_FOLDER}/{name}.png": root / voc.IMAGES / f"{name}.jpg" for name in ids}, str(listed))


def _cityscapes_images(config: DataConfig, split: str) -> dict[str, Path]:
    """The images below `leftImg8bit/<split>`; the masks lie flat in the archive, for the names are unique."""
    folder = dataset_root(config) / cityscapes.IMAGES / split
    paths = cityscapes.by_name(folder, cityscapes.IMAGE_END).values()
    return _present(
        {f"{path.name.removesuffix(cityscapes.IMAGE_END)}_labelIds.png": path for path in paths}, str(folder)
    )


def _present(images: dict[str, Path], where: str) -> dict[str, Path]:
    if not images:
        raise ConfigError(f"{where}: no images to segment. Name the folder with data.root and the split with --split.")
    missing = [path for path in images.values() if not path.is_file()]
    if missing:
        raise DataError(f"{where}: {len(missing)} images are missing, such as {missing[0]}")
    return images


BENCHMARKS = {
    "voc": Benchmark(
        labels=voc.LABELS,
        images=_voc_images,
        values=tuple(range(voc.LABELS.num_classes)),
        palette=tuple(voc.LABELS.flat_palette()),
        size=None,
        suffix=".tgz",
    ),
    "cityscapes": Benchmark(
        labels=cityscapes.LABELS,
        images=_cityscapes_images,
        values=tuple(label.id for label in cityscapes.CITYSCAPES_LABELS if label.name in cityscapes.LABELS.names),
        palette=None,
        size=CITYSCAPES_SIZE,
        suffix=".zip",
    ),
}
"""By the names that `--submission` takes."""
