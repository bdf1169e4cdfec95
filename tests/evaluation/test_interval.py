import numpy as np
import pytest
from scipy import stats

from segzoo.evaluation.counts import CONFIDENCE, RESAMPLES, miou_interval, resampled_mious


def counts_of(images, classes=4, seed=0):
    """Hits, true pixels and predicted pixels of images of different difficulty."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 3000, (images, classes))
    truth[generator.random(truth.shape) < 0.3] = 0
    skill = generator.uniform(0.2, 0.9, (images, 1))
    hits = (truth * skill * generator.uniform(0.5, 1, truth.shape)).astype(np.int64)
    return np.stack([hits, truth, hits + generator.integers(0, 900, truth.shape)], axis=1)


def miou(counts):
    """Of images together, class by class."""
    hits, truth, predicted = counts.sum(0)
    unions = truth + predicted - hits
    return np.mean([hit / union for hit, union in zip(hits, unions, strict=True) if union])


def test_agrees_with_scipy() -> None:
    counts = counts_of(60)
    interval = miou_interval(counts)
    expected = stats.bootstrap(
        (np.arange(60),),
        lambda chosen: miou(counts[chosen]),
        vectorized=False,
        method="percentile",
        n_resamples=4000,
        confidence_level=CONFIDENCE,
        rng=np.random.default_rng(7),
    )
    spread = expected.standard_error
    assert interval.low == pytest.approx(expected.confidence_interval.low, abs=0.15 * spread)
    assert interval.high == pytest.approx(expected.confidence_interval.high, abs=0.15 * spread)
    assert (interval.confidence, interval.resamples) == (0.95, RESAMPLES)
    assert interval.low < miou(counts) < interval.high


def test_two_images_are_drawn_as_the_binomial_distribution_says() -> None:
    """Of n draws from two images, the first comes 0, 1 or 2 times with chances 1/4, 1/2, 1/4."""
    counts = np.array([[[10], [10], [10]], [[0], [10], [10]]])
    drawn = np.concatenate(list(resampled_mious(counts)))
    values, times = np.unique(drawn, return_counts=True)
    assert values == pytest.approx([0, 10 / 30, 1])
    assert len(drawn) == RESAMPLES
    assert stats.chisquare(times, [RESAMPLES / 4, RESAMPLES / 2, RESAMPLES / 4]).pvalue > 0.01


def test_absent_classes_are_left_out() -> None:
    counts = counts_of(20)
    wider = np.concatenate([counts, np.zeros((20, 3, 2), np.int64)], axis=2)
    assert miou_interval(wider) == miou_interval(counts)


def test_the_same_every_time_and_none_for_single_images() -> None:
    counts = counts_of(9)
    assert miou_interval(counts) == miou_interval(counts.copy())
    assert miou_interval(counts[:1]) is None
    assert miou_interval(np.concatenate([counts[:1], np.zeros_like(counts[:1])])) is None


def test_covers_the_truth_as_often_as_it_says() -> None:
    """Closed form: one class, hits out of a constant union, so that mIoU is a mean of independent shares."""
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(120):
        hits = generator.binomial(100, 0.6, 80)[:, None]
        interval = miou_interval(np.stack([hits, np.full_like(hits, 100), hits], axis=1))
        covered += interval.low <= 0.6 <= interval.high
    assert stats.binomtest(covered, 120, CONFIDENCE).pvalue > 0.01
