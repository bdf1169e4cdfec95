"""DeepLabV3+'s head, as Fig. 2 of the paper draws it, from the configuration's defaults and the rates that follow."""

from figures.svg import Drawing, figures
from segzoo.backbones.aligned_xception import XCEPTION65
from segzoo.backbones.strides import feature_specs, plan_blocks
from segzoo.config.model import DeepLabConfig
from segzoo.models.deeplabv3plus import LOW_LEVEL_STRIDE, low_level_tap, scaled_rates

STRIDES = (16, 8)

_WIDTH, _BOX, _GAP = 330, 28, 14


def head_figure() -> str:
    """The head at the output strides of the paper, as HTML."""
    return figures(*({f"output stride {stride}": _draw_head(stride)} for stride in STRIDES))


def _draw_head(output_stride: int) -> Drawing:
    options = DeepLabConfig()
    features = feature_specs(plan_blocks(XCEPTION65, output_stride))
    early = features[low_level_tap(features)]
    drawing = Drawing(_WIDTH, f"DeepLabV3+ at output stride {output_stride}")
    deepest = f"Xception-65, last tap: {features[-1].channels}, stride {output_stride}"
    y = _step(drawing, 4, "image", "plain")
    y = _step(drawing, y, deepest, "conv")
    y = _branches(
        drawing,
        y,
        ["1×1", *(f"3×3\nrate {r}" for r in scaled_rates(options.atrous_rates, output_stride)), "image\nmean"],
    )
    y = _step(drawing, y, f"joined, 1×1 to {options.aspp_channels}, dropout {options.dropout:g}", "conv")
    y = _step(drawing, y, f"resized to stride {LOW_LEVEL_STRIDE}", "plain")
    y = _step(
        drawing,
        y,
        f"tap of stride {LOW_LEVEL_STRIDE}: {early.channels}, 1×1 to {options.low_level_channels}",
        "shortcut",
    )
    for _ in range(options.decoder_convolutions):
        y = _step(drawing, y, f"3×3 to {options.decoder_channels}", "conv")
    y = _step(drawing, y, "1×1 to classes", "conv")
    _step(drawing, y, "resized to the image", "plain", last=True)
    return drawing


def _step(drawing: Drawing, y: float, text: str, kind: str, *, last: bool = False) -> float:
    drawing.box(20, y, _WIDTH - 40, _BOX, text, kind)
    if not last:
        drawing.line((_WIDTH / 2, y + _BOX), (_WIDTH / 2, y + _BOX + _GAP))
    return y + _BOX + _GAP


def _branches(drawing: Drawing, y: float, branches: list[str]) -> float:
    width = _WIDTH / len(branches)
    for number, text in enumerate(branches):
        x = number * width
        drawing.line((_WIDTH / 2, y - 2), (x + width / 2, y + 10))
        drawing.box(
            x + 2, y + 10, width - 4, 44, text, "rate-4" if "rate" in text else "pool" if "mean" in text else "conv"
        )
        drawing.line((x + width / 2, y + 54), (_WIDTH / 2, y + 66))
    return y + 66
