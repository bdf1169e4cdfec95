"""Where a network strides and where it dilates at output stride 32, 16 and 8: what the planner says, drawn."""

from collections.abc import Sequence

from figures.network import TABLES, repeated
from figures.svg import Drawing, figures
from segzoo.backbones.strides import STEM_STRIDE, PlannedBlock, plan_blocks

STRIDES = (32, 16, 8)

_WIDTH, _ROW, _FULL = 224, 40, 128
_LABEL, _LEFT = 74, 82


def stride_figure(name: str) -> str:
    """The size of the map behind each module, and the rate of its convolutions, at every output stride, as HTML."""
    table = TABLES[name]
    plans = {stride: plan_blocks(table, stride) for stride in STRIDES}
    return figures(*({f"output stride {stride}": _draw_plan(name, stride, plan)} for stride, plan in plans.items()))


def kernel_figure(name: str) -> str:
    """The pixels that a kernel of the last module reads, at every output stride, as HTML."""
    drawing = Drawing(316, f"Pixels that one row of a kernel in the last module of {name} reads")
    for number, stride in enumerate(STRIDES):
        last = plan_blocks(TABLES[name], stride)[-1]
        _draw_comb(drawing, 14 + 62 * number, last)
    return figures({f"one row of a 3×3 kernel in the last module of {name}": drawing})


def _draw_plan(name: str, output_stride: int, plan: Sequence[PlannedBlock]) -> Drawing:
    drawing = Drawing(_WIDTH, f"Strides and rates of {name} at output stride {output_stride}")
    _draw_row(drawing, 0, "stem", STEM_STRIDE, 1, f"stride {STEM_STRIDE}")
    y, seen = _ROW, dict.fromkeys(("entry", "middle", "exit"), 0)
    for planned, count in repeated(plan):
        flow = planned.block.flow.removesuffix("_flow")
        first, last = seen[flow] + 1, seen[flow] + count
        seen[flow] = last
        label = f"{flow} {first}" if count == 1 else f"{flow} {first}–{last}"
        stride = planned.input_stride * planned.stride
        rate = f" · rate {planned.dilation}" if planned.dilation > 1 else ""
        gave_up = " · dense" if planned.stride < planned.block.stride else ""
        _draw_row(drawing, y, label, stride, planned.dilation, f"stride {stride}{rate}{gave_up}")
        y += _ROW
    return drawing


def _draw_row(drawing: Drawing, y: float, label: str, stride: int, rate: int, text: str) -> None:
    width = _FULL * STEM_STRIDE / stride
    drawing.text(_LABEL, y + 9, label, "label", "end")
    drawing.bar(_LEFT, y + 2, _FULL, 14, "ghost")
    drawing.bar(_LEFT, y + 2, width, 14, f"rate-{rate}")
    drawing.text(_LEFT, y + 25, text, "small", "start")


def _draw_comb(drawing: Drawing, y: float, planned: PlannedBlock) -> None:
    """A row of pixels of the map, those that the kernel reads marked, 4 screen pixels to one of the image."""
    step, reach = planned.input_stride, planned.input_stride * planned.dilation
    drawing.text(4, y, f"stride {step}, rate {planned.dilation}: every {reach} pixels of the image", "label", "start")
    for place in range(-48 // step * step, 49, step):
        if abs(place) > 48:
            continue
        read = place in (-reach, 0, reach)
        drawing.circle(158 + 3 * place, y + 22, 6 if read else 3, "read" if read else "unread")
