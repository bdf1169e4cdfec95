"""The plan: which block strides and which dilates, against the tables of the DeepLab papers."""

import pytest

from segzoo.backbones.aligned_xception import XCEPTION41, XCEPTION65, XCEPTION71
from segzoo.backbones.strides import feature_specs, plan_blocks, receptive_fields, truncate
from segzoo.backbones.xception import XCEPTION

TABLES = {"xception": XCEPTION, "xception41": XCEPTION41, "xception65": XCEPTION65, "xception71": XCEPTION71}


def rates(blocks, output_stride):
    """(stride, dilation) by module name, the middle flow's modules as one."""
    plan = plan_blocks(blocks, output_stride)
    middle = {(one.stride, one.dilation) for one in plan if one.block.flow == "middle_flow"}
    assert len(middle) == 1
    rest = {one.name: (one.stride, one.dilation) for one in plan if one.block.flow != "middle_flow"}
    return rest | {"middle_flow": middle.pop()}


@pytest.mark.parametrize("blocks", [XCEPTION, XCEPTION41, XCEPTION65], ids=["xception", "41", "65"])
@pytest.mark.parametrize(
    ("output_stride", "entry_2", "middle", "exit_0", "exit_1"),
    [
        (32, (2, 1), (1, 1), (2, 1), (1, 1)),
        (16, (2, 1), (1, 1), (1, 1), (1, 2)),
        (8, (1, 1), (1, 2), (1, 2), (1, 4)),
    ],
)
def test_rates_of_the_paper(blocks, output_stride, entry_2, middle, exit_0, exit_1):
    assert rates(blocks, output_stride) == {
        "entry_flow.0": (2, 1),
        "entry_flow.1": (2, 1),
        "entry_flow.2": entry_2,
        "middle_flow": middle,
        "exit_flow.0": exit_0,
        "exit_flow.1": exit_1,
    }


def test_rates_of_xception71():
    found = rates(XCEPTION71, 8)
    assert [found[f"entry_flow.{index}"] for index in range(5)] == [(2, 1), (1, 1), (2, 1), (1, 1), (1, 1)]
    assert (found["middle_flow"], found["exit_flow.0"], found["exit_flow.1"]) == ((1, 2), (1, 2), (1, 4))


@pytest.mark.parametrize(
    ("name", "modules"), [("xception", 13), ("xception41", 13), ("xception65", 21), ("xception71", 23)]
)
def test_number_of_modules(name, modules):
    assert len(TABLES[name]) == modules


@pytest.mark.parametrize("blocks", TABLES.values(), ids=TABLES)
def test_feature_specs(blocks):
    specs = feature_specs(plan_blocks(blocks, 8))
    assert [spec.channels for spec in specs] == [128, 256, 728, 1024, 2048]
    assert [spec.stride for spec in specs] == [2, 4, 8, 8, 8]
    assert [spec.activated for spec in specs] == [False, False, False, False, True]


def test_layers_named_in_the_title():
    """41, 65 and 71 count the convolutions: two of the stem, and the separable ones, on the longest path."""
    for name in ("xception41", "xception65", "xception71"):
        convolutions = 2 + sum(len(block.channels) for block in TABLES[name])
        assert convolutions == int(name.removeprefix("xception"))
    assert 2 + sum(len(block.channels) for block in XCEPTION) == 36


@pytest.mark.parametrize("blocks", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_truncated_plan_keeps_the_features(blocks, depth):
    plan = plan_blocks(blocks, 16)
    whole, cut = feature_specs(plan), feature_specs(truncate(plan, depth))
    assert cut == whole[:depth]


def test_receptive_field_grows_by_each_kernel():
    """Chollet's first module: 7 of the stem, two kernels at stride 2, then the pool; the second at stride 4."""
    fields = receptive_fields(plan_blocks(XCEPTION, 32))
    assert fields[0] == 7 + 2 * 4
    assert fields[1] == 7 + 3 * 4 + 2 * 8
    # Dilation keeps the kernels on the pixels they had: equal reach at every output stride.
    assert fields == receptive_fields(plan_blocks(XCEPTION, 16)) == receptive_fields(plan_blocks(XCEPTION, 8))
