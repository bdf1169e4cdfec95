"""The figures show what the networks are: held against built networks and against the papers."""

import re
from xml.etree import ElementTree as ET

import pytest
from figures.head import head_figure
from figures.network import layers_of, network_figure
from figures.strides import kernel_figure, stride_figure

from segzoo.backbones import build_backbone
from segzoo.backbones.strides import plan_blocks
from segzoo.backbones.xception import XCEPTION

FIGURES = {
    "entry": lambda: network_figure("xception71", "entry_flow"),
    "network": lambda: network_figure("xception65"),
    "strides": lambda: stride_figure("xception"),
    "kernel": lambda: kernel_figure("xception65"),
    "head": head_figure,
}


def texts(html):
    return [re.sub(r"\s+", " ", text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", html)]


@pytest.mark.parametrize("name", FIGURES)
def test_they_are_well_formed_inside_their_frame_and_one_block_of_html(name):
    html = FIGURES[name]()
    assert "\n\n" not in html  # in Markdown a blank line would end the block
    figures = ET.fromstring(html.replace('xmlns="http://www.w3.org/2000/svg" ', ""))  # noqa: S314  (our own)
    for svg in figures.iter("svg"):
        width, height = float(svg.get("width")), float(svg.get("height"))
        assert svg.find("title").text
        for shape in svg.iter("rect"):
            assert 0 <= float(shape.get("x")) <= float(shape.get("x")) + float(shape.get("width")) <= width
            assert 0 <= float(shape.get("y")) <= float(shape.get("y")) + float(shape.get("height")) <= height
        for shape in svg.iter("circle"):
            assert 0 <= float(shape.get("cx")) <= width
            assert 0 <= float(shape.get("cy")) <= height


def test_fig_5_of_the_paper():
    """Layer by layer, written out from the paper."""
    drawn = [[text for text, kind in layers_of(planned) if kind != "tap"] for planned in plan_blocks(XCEPTION, 32)]
    pool = "max-pool, stride 2"
    assert drawn == [
        ["separable 128", "ReLU", "separable 128", pool],
        ["ReLU", "separable 256", "ReLU", "separable 256", pool],
        ["ReLU", "separable 728", "ReLU", "separable 728", pool],
        *[["ReLU", "separable 728"] * 3] * 8,
        ["ReLU", "separable 728", "ReLU", "separable 1024", pool],
        ["separable 1536", "ReLU", "separable 2048", "ReLU"],
    ]
    assert "× 8" in texts(network_figure("xception", "middle_flow"))


@pytest.mark.parametrize("name", ["xception", "xception65", "xception71"])
def test_taps_are_the_networks(name):
    shown = texts(network_figure(name))
    found = [shown[place + 1 : place + 3] for place, text in enumerate(shown) if text.startswith("tap ")]
    specs = build_backbone(name, output_stride=32, width=1.0).feature_specs
    assert found == [[f"{spec.channels} ch.", f"stride {spec.stride}"] for spec in specs]


def test_rates_are_the_papers():
    """arXiv:1802.02611: at output stride 16 the last module has rate 2; at 8 the middle flow 2 and the last 4."""
    shown = texts(stride_figure("xception65"))
    columns = [shown[place : place + 14] for place in range(0, len(shown), 14)]
    assert len(columns) == 3
    rows = [dict(zip(column[::2], column[1::2], strict=True)) for column in columns]
    assert [row["exit 2"] for row in rows] == ["stride 32", "stride 16 · rate 2", "stride 8 · rate 4"]
    assert [row["middle 1–16"] for row in rows] == ["stride 16", "stride 16", "stride 8 · rate 2"]
    assert [row["exit 1"] for row in rows] == [
        "stride 32",
        "stride 16 · dense",
        "stride 8 · rate 2 · dense",
    ]


def test_a_kernel_reads_the_same_pixels_at_every_output_stride():
    html = kernel_figure("xception65")
    read = re.findall(r'<circle class="read" cx="([\d.]+)"', html)
    assert read == ["62", "158", "254"] * 3
    assert html.count('class="unread"') == 0 + (7 - 3) + (13 - 3)


def test_the_heads_rates_follow_the_output_stride():
    html = head_figure()
    assert re.findall(r">rate (\d+)<", html) == ["6", "12", "18", "12", "24", "36"]
    assert ">tap of stride 4: 256, 1×1 to 48<" in html
