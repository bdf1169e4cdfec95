from itertools import pairwise
from pathlib import Path

import pytest
import torch

from segzoo.checkpoint.read import load_segmenter
from segzoo.inference import tile_size
from segzoo.inference.augment import TestTimeAugmentation
from segzoo.inference.tile_size import (
    LARGEST_TILE,
    LiveBytes,
    auto_batch,
    auto_tile,
    choose_tile,
    free_memory,
    left_in_groups,
    memory_per_pixel,
)
from segzoo.training.train import TrainResult

GIB = 2**30


def test_more_memory_never_gives_a_smaller_tile() -> None:
    tiles = [auto_tile(free, 1000) for free in range(0, 20 * GIB, GIB // 7)]
    assert all(less <= more for less, more in pairwise(tiles))
    assert (tiles[0], tiles[-1]) == (32, LARGEST_TILE)
    assert all(tile % 32 == 0 for tile in tiles)


def test_hungrier_networks_never_get_a_larger_tile() -> None:
    tiles = [auto_tile(2 * GIB, per_pixel) for per_pixel in range(10, 100_000, 777)]
    assert all(less >= more for less, more in pairwise(tiles))


@pytest.mark.parametrize("per_pixel", [300, 1000, 2500.5])
def test_a_tile_takes_at_most_half_of_the_memory(per_pixel: float) -> None:
    for free in (GIB // 8, GIB, 3 * GIB):
        tile = auto_tile(free, per_pixel)
        assert tile**2 * per_pixel <= free / 2
        assert tile == LARGEST_TILE or (tile + 32) ** 2 * per_pixel > free / 2


def test_batches_take_at_most_half_of_the_memory_and_are_one_tile_at_least() -> None:
    for tile in (64, 512, 2048):
        batches = [auto_batch(free, 1000, tile) for free in range(0, 20 * GIB, GIB // 3)]
        assert all(less <= more for less, more in pairwise(batches))
        assert (batches[0], max(batches) <= 8) == (1, True)
        assert all(
            batch == 1 or batch * tile**2 * 1000 <= number * (GIB // 3) / 2 for number, batch in enumerate(batches)
        )


def test_live_bytes_of_a_chain_that_is_known() -> None:
    """Input 1, then maps of 2, 8 and 1 megabytes: the most at once are 8 + 2, for each dies when the next is there."""
    with LiveBytes() as live:
        first = torch.zeros(2, 250_000)
        second = first.repeat(4, 1)
        del first
        third = second[:1] + 1
        del second
        fourth = third + 1
    assert live.peak == 10_000_000
    assert fourth.nbytes == 1_000_000


def test_what_a_network_takes(tiny_run: TrainResult, monkeypatch: pytest.MonkeyPatch) -> None:
    source = load_segmenter(tiny_run.run_dir)
    per_pixel = memory_per_pixel(source)
    logits = 4 * source.labels.num_classes
    assert logits < per_pixel < 2000
    assert choose_tile(source, torch.device("cpu")) >= choose_tile(
        source, torch.device("cpu"), TestTimeAugmentation((1.0, 8.0), flip=False)
    )
    monkeypatch.setattr(tile_size, "sketch_network", None)
    assert memory_per_pixel(source) == per_pixel  # measured once


def test_free_memory_is_some_and_no_more_than_there_is() -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024 if Path("/proc/meminfo").exists() else 2**60
    assert 0 < free_memory(torch.device("cpu")) <= total


def test_limits_of_control_groups(tmp_path: Path) -> None:
    def write(folder: Path, **files: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name.replace("__", ".")).write_text(f"{content}\n")

    write(tmp_path / "job" / "step", memory__max="max", memory__current="5")
    statistics = "anon 100\nactive_file 100\ninactive_file 200"  # the system gives these back when asked
    write(tmp_path / "job", memory__max="1000", memory__current="400", memory__stat=statistics)
    write(tmp_path / "memory" / "old", memory__limit_in_bytes="900", memory__usage_in_bytes="100")
    membership = tmp_path / "cgroup"
    membership.write_text("5:cpu,memory:/old\n4:pids:/job\n0::/job/step\n")
    assert sorted(left_in_groups(tmp_path, membership)) == [800, 900]
    assert list(left_in_groups(tmp_path, tmp_path / "absent")) == []
