import random

from segzoo.evaluation.report.task_pages import choose
from segzoo.evaluation.results import ImageScore


def scored(make_evaluation, mious):
    scores = tuple(ImageScore(index, f"{index}", miou, miou, (miou,), 10) for index, miou in enumerate(mious))
    evaluation, _ = make_evaluation(images=1, per_image=scores)
    return evaluation


def indices(chosen, group):
    return [entry.score.index for entry in chosen if entry.group == group]


def test_worst_and_best_are_those_of_a_full_sort(make_evaluation):
    source = random.Random(7)
    mious = [source.random() for _ in range(200)]
    chosen = choose(scored(make_evaluation, mious), per_group=12)
    order = sorted(range(200), key=mious.__getitem__)
    assert indices(chosen, "worst") == order[:12]
    assert indices(chosen, "best") == order[::-1][:12]
    shown = [entry.score.index for entry in chosen]
    assert len(set(shown)) == len(shown) == 36
    assert shown == [entry.score.index for entry in choose(scored(make_evaluation, mious), per_group=12)]


def test_equal_images_stay_in_order(make_evaluation):
    chosen = choose(scored(make_evaluation, [0.5] * 40), per_group=3)
    assert indices(chosen, "worst") == [0, 1, 2]
    assert indices(chosen, "best") == [3, 4, 5]


def test_few_images_are_all_shown_once(make_evaluation):
    for count in range(1, 8):
        shown = [entry.score.index for entry in choose(scored(make_evaluation, [0.1 * i for i in range(count)]))]
        assert sorted(shown) == list(range(count))


def test_an_ignored_image_is_neither_worst_nor_best(make_evaluation):
    chosen = choose(scored(make_evaluation, [None, 0.2, 0.9]))
    assert (indices(chosen, "worst"), indices(chosen, "best"), indices(chosen, "random")) == ([1], [2], [0])
    assert choose(scored(make_evaluation, [])) == []
