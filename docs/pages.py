"""What is put into the pages when the site is built, so that it cannot fall behind the code.

A line `<!-- generated: NAME ARGUMENT ... -->` of a page is replaced by what the function NAME of `GENERATED` returns.
The first line of a fenced block may end in words (`sh needs-data`) that say why the tests do not run it; the block is
labelled with them.
"""

import re
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from html import escape
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import torch
from figures.head import head_figure
from figures.network import network_figure
from figures.strides import kernel_figure, stride_figure

from segzoo.backbones import list_backbones
from segzoo.backbones.describe import describe_backbone
from segzoo.commands import COMMANDS, call
from segzoo.config.explain import config_reference
from segzoo.config.schema import BackboneConfig, ModelConfig
from segzoo.errors import ConfigError
from segzoo.models.build import build_segmenter, list_decoders
from segzoo.models.decoder import DECODERS
from segzoo.models.describe import describe_segmenter
from segzoo.models.networks import check_training

if TYPE_CHECKING:
    from sphinx.application import Sphinx

REPOSITORY = Path(__file__).parent.parent
MARKS = ("needs-data", "needs-gpu", "needs-network", "needs-time")
"""Why the tests do not run a block."""

_MARKER = re.compile(r"^<!-- generated: (?P<name>\w+)(?P<arguments>[^>]*) -->$", re.MULTILINE)
_MARKED = re.compile(rf"^(?P<indent> *)```(?P<language>\w+) (?P<mark>{'|'.join(MARKS)})$", re.MULTILINE)
_CODE = re.compile(r'(?<=<span class="pre">)[^<]*')
_SEAM = re.compile(r"([._=])(?=\w)")
_KEYS = "configuration keys, as key.sub=value"  # where a command's help begins to explain the schema


def setup(app: "Sphinx") -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("source-read", lambda _app, _page, source: source.__setitem__(0, generate(source[0])))
    app.connect("html-page-context", lambda _app, _page, _template, context, _tree: breakable(context))
    # Before napoleon (500) makes reStructuredText of it.
    app.connect("autodoc-process-docstring", lambda *given: given[-1].__setitem__(slice(None), plain(given[-1])), 400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def generate(text: str) -> str:
    """A page's Markdown with all that is generated in it."""
    text = _MARKED.sub("\\g<indent>{.\\g<mark>}\n\\g<indent>```\\g<language>", text)
    return _MARKER.sub(lambda match: GENERATED[match["name"]](*match["arguments"].split()), text)


def breakable(context: dict[str, str]) -> None:
    """Let long names of code break behind a dot, an underscore or an equals sign."""
    if "body" in context:
        context["body"] = _CODE.sub(lambda match: _SEAM.sub(r"\1<wbr>", match[0]), context["body"])


def plain(lines: list[str]) -> list[str]:
    """A docstring whose code in backticks may be followed by a letter (`Spec`s), which reStructuredText refuses."""
    return re.sub(r"`([^`]+)`(?=\w)", r"`\1`\\ ", "\n".join(lines)).split("\n")


def command_help() -> str:
    """What each command says of itself, without the configuration's keys."""
    return "\n\n".join(
        f"## segzoo {name}\n\n```text\n{help_of(name).partition(_KEYS)[0].strip()}\n```" for name in COMMANDS
    )


def help_of(name: str) -> str:
    """The text of `--help`."""
    printed = StringIO()
    with patch.dict("os.environ", {"COLUMNS": "88"}), redirect_stdout(printed), suppress(SystemExit):
        call(name, ["--help"])
    return printed.getvalue()


def backbone_table() -> str:
    """What each backbone costs."""
    lines = ["| backbone | parameters | multiply-adds | training memory |", "| --- | ---: | ---: | ---: |"]
    for name in list_backbones():
        found = describe_backbone(name)
        memory = f"{found.activation_bytes / 2**20:,.0f} MiB"
        lines.append(f"| `{name}` | {found.parameters:,} | {found.macs / 1e9:.2f} G | {memory} |")
    return "\n".join(lines)


def decoder_costs() -> str:
    """What some decoders cost with Xception, measured on tensors without content."""
    lines = [
        "| decoder | output stride | parameters | multiply-adds | kept |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in ("deeplabv3plus", "deeplabv3plus_smp", "unet", "fpn", "upernet", "segformer"):  # two seconds each
        stride = 16 if 16 in DECODERS[name].output_strides else 32
        model = ModelConfig(decoder=name, output_stride=stride, backbone=BackboneConfig(name="xception"))
        found = describe_segmenter(model, 21, size=(513, 513))
        memory = f"{found.activation_bytes / 2**20:,.0f} MiB"
        lines.append(f"| `{name}` | {stride} | {found.parameters:,} | {found.macs / 1e9:.2f} G | {memory} |")
    return "\n".join(lines)


def decoder_limits() -> str:
    """What each decoder cannot do, as it is registered and as torch finds."""
    lines = [
        "| decoder | output strides | images a device, at least | the same at another output stride |",
        "| --- | --- | ---: | --- |",
    ]
    for name in list_decoders():
        strides = DECODERS[name].output_strides
        model = ModelConfig(decoder=name, output_stride=strides[-1], backbone=BackboneConfig(width=0.1))
        with torch.device("meta"):
            decoder = build_segmenter(model, 2, pretrained=False).decoder
        same = "" if len(strides) == 1 else "yes" if decoder.follows_stride else "no"
        lines.append(f"| `{name}` | {', '.join(map(str, strides))} | {_least_batch(model)} | {same} |")
    return "\n".join(lines)


def _least_batch(model: ModelConfig) -> int:
    try:
        check_training(model, 1, (97, 97))
    except ConfigError:
        return 2
    return 1


def listing(path: str, start: str, end: str) -> str:
    """Lines of a source file, from the one that begins with `start` to the one before `end`, as they are now."""
    lines = (REPOSITORY / path).read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(start))
    last = next(number for number, line in enumerate(lines) if number > first and line.startswith(end))
    body = "\n".join(lines[first:last]).strip()
    return f'<div class="from">{escape(path)}</div>\n\n```python\n{body}\n```'


GENERATED: dict[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        backbone_table,
        command_help,
        config_reference,
        decoder_costs,
        decoder_limits,
        head_figure,
        kernel_figure,
        listing,
        network_figure,
        stride_figure,
    )
}
