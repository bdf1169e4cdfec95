"""The order of samples."""

from itertools import chain

import pytest

from segzoo.data.loading.sampling import SampleKey, ShardSampler, StepBatchSampler
from segzoo.errors import ConfigError


@pytest.mark.parametrize(("num_samples", "batch_size"), [(7, 3), (8, 4), (5, 5), (100, 16), (1, 1)])
def test_every_epoch_is_a_permutation_and_no_sample_is_skipped(num_samples: int, batch_size: int) -> None:
    keys = list(chain(*StepBatchSampler(num_samples, batch_size, steps=4 * num_samples, seed=0)))
    assert all(len(batch) == batch_size for batch in StepBatchSampler(num_samples, batch_size, 10, 0))
    assert len(keys) == 4 * num_samples * batch_size
    for epoch in range(4 * batch_size):
        pass_over_data = keys[epoch * num_samples : (epoch + 1) * num_samples]
        assert {key.epoch for key in pass_over_data} == {epoch}
        assert sorted(key.index for key in pass_over_data) == list(range(num_samples))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [key.index for key in StepBatchSampler(50, 50, 3, seed).batch(epoch)]

    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len({tuple(found) for found in orders}) == 6
    assert order(1, 2) == orders[5]


@pytest.mark.parametrize("start", [0, 1, 4, 9, 10])
def test_starting_later_gives_the_same_batches_from_there(start: int) -> None:
    whole = list(StepBatchSampler(7, 3, 10, seed=5))
    later = StepBatchSampler(7, 3, 10, seed=5, start_step=start)
    assert list(later) == whole[start:]
    assert len(later) == 10  # the whole run


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_processes_share_every_batch(world_size: int) -> None:
    whole = list(StepBatchSampler(13, 6, 20, seed=2))
    shares = [list(StepBatchSampler(13, 6, 20, 2, rank=rank, world_size=world_size)) for rank in range(world_size)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert list(chain(*parts)) == batch
        assert {len(part) for part in parts} == {6 // world_size}


def test_uneven_shares_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size: 16 cannot be shared evenly among 3 devices"):
        StepBatchSampler(100, 16, 1, 0, world_size=3)


def test_keys_name_epoch_and_index() -> None:
    key = StepBatchSampler(3, 2, 9, 0).batch(2)[0]
    assert key == SampleKey(epoch=1, index=key.index)


@pytest.mark.parametrize("num_samples", [1, 5, 6])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_shards_cover_every_sample_once(num_samples: int, world_size: int) -> None:
    shards = [ShardSampler(num_samples, rank, world_size) for rank in range(world_size)]
    assert sorted(chain(*shards)) == list(range(num_samples))
    assert [len(shard) for shard in shards] == [len(list(shard)) for shard in shards]
