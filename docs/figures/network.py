"""A network module by module, as Fig. 5 of Xception and Fig. 4 of DeepLabV3+ draw them, from its table of blocks."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from figures.svg import Drawing, figures
from segzoo.backbones.aligned_xception import XCEPTION65, XCEPTION71
from segzoo.backbones.strides import STEM_CHANNELS, STEM_STRIDE, Block, PlannedBlock, feature_specs, plan_blocks
from segzoo.backbones.xception import XCEPTION

TABLES: dict[str, tuple[Block, ...]] = {"xception": XCEPTION, "xception65": XCEPTION65, "xception71": XCEPTION71}
FLOWS = {"entry_flow": "Entry flow", "middle_flow": "Middle flow", "exit_flow": "Exit flow"}

_WIDTH, _LEFT, _BOX, _SHORTCUT = 300, 84, 150, 66
_MIDDLE = _LEFT + _BOX / 2
_TALL, _LOW, _GAP = 26, 18, 6

Layer = tuple[str, str]
"""Its text, and its kind: conv, relu, pool or tap."""


def network_figure(name: str, flow: str | None = None) -> str:
    """All flows of a network, or one, as HTML.

    Args:
        name: of `TABLES`.
        flow: entry_flow, middle_flow or exit_flow; None for all.
    """
    plan = plan_blocks(TABLES[name], output_stride=32)
    shown = [one for one in FLOWS if flow in (None, one)]
    drawn = {f"{FLOWS[one]} of {name}": _draw_flow(name, one, plan) for one in shown}
    first, *others = drawn  # the entry flow is as tall as the other two
    return figures({first: drawn[first]}, *([{caption: drawn[caption] for caption in others}] if others else []))


def layers_of(planned: PlannedBlock) -> Iterator[Layer]:
    """What a module computes beside its shortcut, in order, with the feature map that is taken from it."""
    block, convolutions = planned.block, planned.convolutions
    for number, convolution in enumerate(convolutions):
        if planned.is_tapped and not block.pool and number == len(convolutions) - 1:
            yield "", "tap"
        if block.relu == "before" or (block.relu == "between" and number):
            yield "ReLU", "relu"
        stride = f", stride {convolution.stride}" if convolution.stride > 1 else ""
        yield f"separable {convolution.out_channels}{stride}", "conv"
        if block.relu == "after":
            yield "ReLU", "relu"
    if block.pool:
        yield "", "tap"
        yield f"max-pool, stride {planned.stride}", "pool"


def repeated(plan: Sequence[PlannedBlock]) -> list[tuple[PlannedBlock, int]]:
    """Modules, those that are alike and follow each other once, with how many there are."""
    groups = [
        list(group)
        for _, group in groupby(plan, key=lambda one: (one.block, one.in_channels, one.stride, one.dilation))
    ]
    return [(group[0], len(group)) for group in groups]


def _draw_flow(name: str, flow: str, plan: Sequence[PlannedBlock]) -> Drawing:
    drawing = Drawing(_WIDTH, f"{FLOWS[flow]} of {name}, module by module")
    taps = {spec.name: (number, spec) for number, spec in enumerate(feature_specs(tuple(plan)), start=1)}
    y: float = 4
    if flow == "entry_flow":
        y = _draw_stem(drawing, y)
    for planned, count in repeated([one for one in plan if one.block.flow == flow]):
        number, spec = taps.get(planned.name, (0, None))
        label = "" if spec is None else f"tap {number}\n{spec.channels} ch.\nstride {spec.stride}"
        y = _draw_module(drawing, y + 8, planned, count, label)
    if flow == "exit_flow":
        drawing.text(_MIDDLE, y + 18, "to a decoder,")
        drawing.text(_MIDDLE, y + 34, "or pooled for a classifier")
    return drawing


def _draw_stem(drawing: Drawing, y: float) -> float:
    first, second = STEM_CHANNELS
    for text, kind in (
        (f"conv {first}, stride {STEM_STRIDE}", "conv"),
        ("ReLU", "relu"),
        (f"conv {second}", "conv"),
        ("ReLU", "relu"),
    ):
        y = _draw_layer(drawing, y, (text, kind))
    drawing.line((_MIDDLE, y - _GAP), (_MIDDLE, y + _GAP))
    return y


def _draw_module(drawing: Drawing, y: float, planned: PlannedBlock, count: int, tap: str) -> float:
    top = y
    drawing.line((_MIDDLE, y - 8), (_MIDDLE, y + 6))
    y += 6
    for layer in layers_of(planned):
        y = _draw_tap(drawing, y, tap) if layer[1] == "tap" else _draw_layer(drawing, y, layer)
    if planned.shortcut == "none":
        return _draw_tap(drawing, y, tap)
    drawing.line((_MIDDLE, y - _GAP), (_MIDDLE, y + 4))
    _draw_shortcut(drawing, top, y + 12, planned)
    drawing.plus(_MIDDLE, y + 12)
    if count > 1:
        drawing.text(_LEFT + _BOX + 8, (top + y) / 2, f"× {count}", "times", "start")
    return y + 21


def _draw_layer(drawing: Drawing, y: float, layer: Layer) -> float:
    text, kind = layer
    height = _LOW if kind == "relu" else _TALL
    drawing.box(_LEFT, y, _BOX, height, text, kind)
    drawing.line((_MIDDLE, y + height), (_MIDDLE, y + height + _GAP))
    return y + height + _GAP


def _draw_shortcut(drawing: Drawing, top: float, bottom: float, planned: PlannedBlock) -> None:
    x = _SHORTCUT / 2 + 2
    drawing.line((_MIDDLE, top), (x, top), (x, bottom), (_MIDDLE - 9, bottom))
    if planned.shortcut == "convolution":
        stride = f"\nstride {planned.stride}" if planned.stride > 1 else ""
        height = 3 * _TALL if stride else 2 * _TALL
        text = f"conv 1×1\n{planned.block.channels[-1]}{stride}"
        drawing.box(x - _SHORTCUT / 2, (top + bottom) / 2 - height / 2, _SHORTCUT, height, text, "shortcut")


def _draw_tap(drawing: Drawing, y: float, text: str) -> float:
    """A tap on the wire behind a layer, which grows for it."""
    drawing.line((_MIDDLE, y - _GAP), (_MIDDLE, y + _GAP))
    drawing.line((_MIDDLE, y), (_LEFT + _BOX + 6, y), kind="tap-wire")
    drawing.circle(_MIDDLE, y, 4, "tap")
    for number, line in enumerate(text.split("\n")):
        drawing.text(_LEFT + _BOX + 8, y + 14 * (number - 1), line, "tap-label", "start")
    return y + _GAP
