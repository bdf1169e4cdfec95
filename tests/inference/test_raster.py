"""Rasters of every kind, compared with what rasterio, Pillow and the network in memory say of them."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.transform import from_origin
from torch import Tensor, nn

from segzoo.data.reading.labels import LabelSpace
from segzoo.data.reading.pixels import PixelFormat
from segzoo.errors import ConfigError, DataError
from segzoo.inference.jobs import is_raster
from segzoo.inference.predict import predict
from segzoo.inference.predictor import Predictor
from segzoo.inference.raster import opened_raster, segment_raster
from segzoo.inference.tiles import Span, Tiling, tiled
from segzoo.training.train import TrainResult

PLACE = {"crs": "EPSG:32632", "transform": from_origin(500_000, 5_300_000, 0.5, 0.5)}
NAMES = ["water", "field", "town", "road", "wood"]


def largest(scores: Tensor) -> Tensor:
    return scores.argmax(1).to(torch.uint8)


@dataclass
class SmallPredictor:
    """What `segment_raster` needs of a predictor, around convolutions that see 5 pixels."""

    pixels: PixelFormat = field(default_factory=PixelFormat)
    labels: LabelSpace = field(default_factory=lambda: LabelSpace.from_names(NAMES))
    tile: int = 64
    overlap: float = 0.25

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        channels = self.pixels.channels
        self.network = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 3, padding=1))
        self.network.requires_grad_(False)

    def tiling(self, tile: int, overlap: float) -> Tiling:
        return Tiling(tile, overlap)

    def whole_scores(self, images: Tensor) -> Tensor:
        return self.network((images if images.is_floating_point() else images / 255) - 0.5)


def _write(path: Path, bands: np.ndarray, **profile: object) -> Path:
    """A GeoTIFF of bands (C, H, W)."""
    count, height, width = bands.shape
    settings = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": bands.dtype, **PLACE}
    with rasterio.open(path, "w", **(settings | profile)) as file:
        file.write(bands)
    return path


@pytest.fixture
def colors() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (3, 203, 270), np.uint8)


def test_a_raster_is_its_tiles_in_memory_with_its_place_on_earth(tmp_path: Path, colors: np.ndarray) -> None:
    colors[:, 40:90, 100:150] = 0
    colors[0, 3, 4] = 0  # only one channel: a dark blue, not nothing
    source, target = _write(tmp_path / "a.tif", colors, nodata=0), tmp_path / "mask.tif"
    predictor = SmallPredictor(tile=96)
    segment_raster(predictor, source, target)
    lost = (colors == 0).all(0)
    seen = torch.from_numpy(np.where(lost, 128, colors).astype(np.uint8))[None]
    expected = np.where(lost, 255, tiled(predictor.whole_scores, seen, Tiling(96, 0.25), largest)[0])
    with rasterio.open(source) as before, rasterio.open(target) as after:
        assert np.array_equal(after.read(1), expected)
        assert (after.crs, after.transform, after.shape) == (before.crs, before.transform, before.shape)
        assert (after.count, after.dtypes, after.nodata) == (1, ("uint8",), 255)
        assert (after.block_shapes, after.compression.name, after.profile["tiled"]) == ([(512, 512)], "deflate", True)
        assert after.descriptions == ("class",)
        assert [after.tags(1)[f"class_{index}"] for index in range(5)] == NAMES
        palette = predictor.labels.palette
        assert [after.colormap(1)[index][:3] for index in range(5)] == list(palette)
        assert np.array_equal(after.dataset_mask() == 0, lost)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "mask.tif"]
    assert len(np.unique(expected)) > 3


@pytest.mark.parametrize("kind", ["rgb", "gray", "palette", "16-bit gray", "rgba"])
def test_pixels_are_those_of_the_same_file_as_a_picture(tmp_path: Path, colors: np.ndarray, kind: str) -> None:
    path, picture = tmp_path / "a.tif", Image.fromarray(colors.transpose(1, 2, 0))
    if kind == "16-bit gray":
        values = np.random.default_rng(1).integers(0, 65536, (203, 270), np.uint16)
        Image.fromarray(values).save(path)
        picture = Image.open(path)
    else:
        mode = {"rgb": "RGB", "gray": "L", "palette": "P", "rgba": "RGBA"}[kind]
        picture.convert(mode).save(path)
    expected = PixelFormat().read(path)
    with opened_raster(path, PixelFormat()) as raster:
        rows, columns = (Span(start, stop, start, stop, np.ones(1)) for start, stop in ((10, 150), (33, 270)))
        tile = raster.tile(rows, columns)
    assert np.array_equal(tile[0].numpy().transpose(1, 2, 0), expected[10:150, 33:270])


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_many_channels_of_16_bits(tmp_path: Path, interleave: str) -> None:
    pytest.importorskip("tifffile")
    bands = np.random.default_rng(0).integers(0, 12_000, (5, 100, 130)).astype(np.uint16)
    source = _write(tmp_path / "a.tif", bands, interleave=interleave, photometric="minisblack")
    predictor = SmallPredictor(PixelFormat(5, (0, 10_000)))
    segment_raster(predictor, source, tmp_path / "mask.tif")
    seen = torch.from_numpy(predictor.pixels.read(source).transpose(2, 0, 1)[None])
    with rasterio.open(tmp_path / "mask.tif") as mask:
        assert np.array_equal(mask.read(1), tiled(predictor.whole_scores, seen, Tiling(64, 0.25), largest)[0])


def test_not_a_number_where_there_is_nothing(tmp_path: Path) -> None:
    bands = np.random.default_rng(0).random((2, 70, 80), np.float32)
    bands[:, 10:20, 10:20] = bands[1, 40, 40] = np.nan
    source, predictor = tmp_path / "a.tif", SmallPredictor(PixelFormat(2, (0.0, 1.0)))
    for profile in ({"nodata": np.nan}, {}):
        segment_raster(predictor, _write(source, bands, **profile), tmp_path / "mask.tif")
        with rasterio.open(tmp_path / "mask.tif") as mask:
            assert np.array_equal(mask.read(1) == 255, np.isnan(bands).all(0))
    bands[0, 5, 6] = np.inf
    with pytest.raises(DataError, match="1 values are infinite"):
        segment_raster(predictor, _write(source, bands), tmp_path / "other.tif")
    assert not (tmp_path / "other.tif").exists()


def test_alpha_says_where_there_is_nothing(tmp_path: Path, colors: np.ndarray) -> None:
    alpha = np.full((1, *colors.shape[1:]), 255, np.uint8)
    alpha[:, 50:60, 70:80] = 0
    source = _write(tmp_path / "a.tif", np.concatenate([colors, alpha]), photometric="rgb", alpha="yes")
    segment_raster(SmallPredictor(tile=128), source, tmp_path / "mask.tif")
    with rasterio.open(tmp_path / "mask.tif") as mask:
        assert np.array_equal(mask.read(1) == 255, alpha[0] == 0)


def test_control_points_are_kept(tmp_path: Path, colors: np.ndarray) -> None:
    source, target = tmp_path / "a.tif", tmp_path / "mask.tif"
    points = [GroundControlPoint(row, column, 10 + column, 50 - row) for row, column in ((0, 0), (0, 200), (200, 9))]
    _write(source, colors, crs=None, transform=None)
    with rasterio.open(source, "r+") as file:
        file.gcps = (points, rasterio.crs.CRS.from_epsg(4326))
    assert is_raster(source)
    segment_raster(SmallPredictor(tile=128), source, target)
    with rasterio.open(target) as mask:
        kept, projection = mask.gcps
        assert [(p.row, p.col, p.x, p.y) for p in kept] == [(p.row, p.col, p.x, p.y) for p in points]
        assert projection.to_epsg() == 4326


def test_classes_decided_each_on_its_own_have_a_channel_each(tmp_path: Path, colors: np.ndarray) -> None:
    labels = LabelSpace.from_names(NAMES, multi_label=True)
    colors[:, :9] = 0
    predictor = SmallPredictor(labels=labels, tile=512)
    segment_raster(predictor, _write(tmp_path / "a.tif", colors, nodata=0), tmp_path / "mask.tif")
    seen = torch.from_numpy(np.where(colors == 0, 128, colors).astype(np.uint8))[None]
    expected = (predictor.whole_scores(seen)[0] > 0).numpy().astype(np.uint8)
    expected[:, :9] = 255
    with rasterio.open(tmp_path / "mask.tif") as mask:
        assert mask.descriptions == tuple(NAMES)
        assert np.array_equal(mask.read(), expected)


def test_tiles_with_nothing_in_them_are_computed_once(tmp_path: Path) -> None:
    bands = np.zeros((3, 64, 700), np.uint8)
    bands[..., 650:] = 7
    predictor, calls = SmallPredictor(overlap=0.0), []
    scores = predictor.whole_scores
    predictor.whole_scores = lambda tiles: (calls.append(1), scores(tiles))[1]  # type: ignore[method-assign]
    segment_raster(predictor, _write(tmp_path / "a.tif", bands, nodata=0), tmp_path / "mask.tif")
    assert len(calls) <= 3


def test_what_is_a_raster(tmp_path: Path, colors: np.ndarray) -> None:
    assert is_raster(_write(tmp_path / "place.tif", colors))
    assert is_raster(_write(tmp_path / "big.TIF", colors, bigtiff="yes"))
    assert is_raster(_write(tmp_path / "swapped.tiff", colors, endianness="big"))
    Image.fromarray(colors[0]).save(tmp_path / "plain.tif")
    assert not is_raster(tmp_path / "plain.tif")
    huge = {"crs": None, "transform": None, "height": 20_000, "width": 20_000, "count": 1, "dtype": "uint8"}
    rasterio.open(tmp_path / "huge.tif", "w", driver="GTiff", sparse_ok=True, tiled=True, **huge).close()
    assert is_raster(tmp_path / "huge.tif")
    os.mkfifo(tmp_path / "pipe.tif")
    assert not is_raster(tmp_path / "pipe.tif")
    faults = {"empty.tif": b"", "cut.tif": b"II*\0\x08", "far.tif": b"II+\0\x08\0\0\0" + b"\xff" * 8, "a.png": b""}
    for name, content in {**faults, "text.tif": b"no picture"}.items():
        (tmp_path / name).write_bytes(content)
        assert not is_raster(tmp_path / name)
    (tmp_path / "place.png").write_bytes((tmp_path / "place.tif").read_bytes())
    assert not is_raster(tmp_path / "place.png")
    assert not is_raster(tmp_path / "absent.tif")
    assert not is_raster(tmp_path)


def test_damaged_rasters_leave_nothing_behind(tmp_path: Path, colors: np.ndarray) -> None:
    whole = _write(tmp_path / "a.tif", colors).read_bytes()
    target = tmp_path / "mask.tif"
    target.write_bytes(b"from before")
    for content in (whole[: len(whole) // 2], whole[:200], b"no picture"):
        (tmp_path / "a.tif").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.tif: damaged or unreadable"):
            segment_raster(SmallPredictor(tile=64), tmp_path / "a.tif", target)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "mask.tif"]
        assert target.read_bytes() == b"from before"


def test_other_channels_and_values_are_refused(tmp_path: Path, colors: np.ndarray) -> None:
    two = _write(tmp_path / "a.tif", colors[:2])
    with pytest.raises(DataError, match=r"a\.tif: 2 channels where 3 belong \(data.channels\)"):
        segment_raster(SmallPredictor(tile=64), two, tmp_path / "mask.tif")
    floating = _write(tmp_path / "b.tif", colors.astype(np.float32))
    with pytest.raises(DataError, match=r"b\.tif: float32 values where 8 or 16 bits belong"):
        segment_raster(SmallPredictor(tile=64), floating, tmp_path / "mask.tif")
    with pytest.raises(ConfigError, match="tile: 16 pixels"):
        segment_raster(SmallPredictor(tile=16), two, tmp_path / "mask.tif")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_raster import SmallPredictor
from segzoo.errors import DataError
from segzoo.inference.raster import segment_raster
folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    segment_raster(SmallPredictor(tile=512), folder / "a.tif", folder / "mask.tif")
except DataError as error:
    print("refused", error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of file sizes")
def test_a_full_disk_is_noticed(tmp_path: Path, colors: np.ndarray) -> None:
    """The mask is compressed in memory and reaches the disk when the file is closed, where GDAL says nothing."""
    _write(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 256, (3, 600, 600), np.uint8))
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(Path(__file__).parent)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.stdout.startswith(f"refused {tmp_path}/mask.tif: cannot be written"), ran.stdout + ran.stderr[-2000:]
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_mask_that_cannot_take_its_place_is_a_fault(tmp_path: Path, colors: np.ndarray) -> None:
    _write(tmp_path / "a.tif", colors)
    (tmp_path / "mask.tif").mkdir()
    with pytest.raises(DataError, match=r"mask\.tif: cannot be written"):
        segment_raster(SmallPredictor(tile=64), tmp_path / "a.tif", tmp_path / "mask.tif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "mask.tif"]


def test_rasters_among_images(tiny_run: TrainResult, tmp_path: Path, colors: np.ndarray) -> None:
    """A mask for each; other kinds are refused before the work; and no raster's fault another's."""
    predictor = Predictor(tiny_run.run_dir, device="cpu")
    (tmp_path / "in").mkdir()
    for name in ("a.tif", "b.tif"):
        _write(tmp_path / "in" / name, colors)
    Image.fromarray(colors.transpose(1, 2, 0)).save(tmp_path / "in" / "c.png")
    for save in (["overlay"], ["mask", "polygons"], ["mask", "areas"], ["entropy", "mask", "probabilities"]):
        with pytest.raises(ConfigError, match=rf"--save: .*{save[-1]}.* masks only.*2 of the images .*a\.tif, b\.tif"):
            predict(predictor, tmp_path / "in", output=tmp_path / "other", save=save, skip_existing=True)
    assert not (tmp_path / "other").exists()
    (tmp_path / "out" / "a.tif").mkdir(parents=True)
    report = predict(predictor, tmp_path / "in", output=tmp_path / "out", overwrite=True)
    assert list(report.failed) == ["a.tif"]
    assert sorted(map(str, report.written)) == ["b.tif", "c.png"]
    with rasterio.open(tmp_path / "out" / "b.tif") as mask:
        assert mask.crs == PLACE["crs"]


MEMORY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
torch.set_num_threads(1)
from test_raster import SmallPredictor
from laboratory.benchmarks.memory import peak_bytes
from segzoo.inference import raster
from segzoo.inference.raster import segment_raster
folder = Path(sys.argv[1])
predictor = SmallPredictor(tile=int(sys.argv[3]))
predictor.network = torch.nn.Conv2d(3, 5, 1).requires_grad_(False)
raster.CACHE_MB = int(sys.argv[4])
peaks = []
for name in ("small.tif", "large.tif"):
    segment_raster(predictor, folder / name, folder / "mask.tif")
    peaks.append(peak_bytes() // 2**20)
print(*peaks)
"""


def _write_pattern(path: Path, side: int) -> None:
    """A raster of any size without holding it."""
    block = np.random.default_rng(0).integers(1, 256, (3, 512, 512), np.uint8)
    settings = {"driver": "GTiff", "count": 3, "height": side, "width": side, "dtype": "uint8", "nodata": 0, **PLACE}
    blocks = {"tiled": True, "blockxsize": 512, "blockysize": 512, "bigtiff": "if_safer"}
    with rasterio.Env(GDAL_CACHEMAX=64), rasterio.open(path, "w", **settings, **blocks) as file:
        for _, window in file.block_windows(1):
            shifted = np.roll(block, window.col_off // 512, axis=2)
            file.write(shifted[:, : window.height, : window.width], window=window)


@pytest.fixture
def peaks(tmp_path: Path, repository: Path) -> Callable[[int, int, int, int], list[int]]:
    """Peak memory in MiB of a process that segments a small raster and then a large one."""

    def measure(small: int, large: int, tile: int, cache: int) -> list[int]:
        _write_pattern(tmp_path / "small.tif", small)
        _write_pattern(tmp_path / "large.tif", large)
        command = [sys.executable, "-c", MEMORY, str(tmp_path), str(Path(__file__).parent), str(tile), str(cache)]
        laboratory = {"PYTHONPATH": str(repository / "tools")}
        ran = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | laboratory)
        return [int(number) for number in ran.stdout.split()]

    return measure


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what was resident")
def test_memory_does_not_grow_with_the_raster(peaks: Callable[[int, int, int, int], list[int]]) -> None:
    """The large one has 16 times the pixels: its image takes 12 MiB, its scores 80."""
    small, large = peaks(512, 2048, 256, 8)
    assert large - small < 40


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what was resident")
def test_400_megapixels_take_less_than_3_gib(peaks: Callable[[int, int, int, int], list[int]]) -> None:
    _, large = peaks(2000, 20_000, 1024, 128)
    assert large < 3 * 1024
