"""A network as an ONNX graph of free batch, height and width."""

import contextlib
import io
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segzoo.backbones.spec import Network
from segzoo.errors import ConfigError, first_line
from segzoo.models.folding import folded

OPSET = 17
"""The newest that the exporter used here writes without a conversion; runtimes have read it since 2022."""

IMAGE_AXES = ("batch", "channels", "height", "width")
_FREE = ("batch", "height", "width")

EXAMPLE_SIZE = (100, 140)
"""Of the image that is traced: no multiple of any stride, so that no padding is taken for none."""


def network_graph(network: nn.Module, channels: int, score_axes: Sequence[str]) -> bytes:
    """`onnx_graph` of what `portable` returned: `image`, normalised float32 of so many channels, to `logits`."""
    example = torch.zeros(2, channels, *EXAMPLE_SIZE)
    return onnx_graph(network, example, "logits", output_axes=score_axes)


def portable(network: Network) -> nn.Module:
    """A copy of the network with its norms folded, in steps that graph formats know."""
    made = folded(network)
    for name, module in list(made.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d):
            bins = _pair(module.output_size)
            if bins is not None and bins != (1, 1):
                made.set_submodule(name, BinPooling(bins))
    return made


def onnx_graph(
    network: nn.Module, example: Tensor, output: str, *, axes: Sequence[str] = IMAGE_AXES, output_axes: Sequence[str]
) -> bytes:
    """Trace a network into an ONNX file's content; nothing is written to the disk.

    Sizes are computed inside the graph, padding included, so that one graph serves all of them. The exporter is
    torch's tracing one: on an Xception of 65 layers it takes 2 s where the one of torch.export takes half a minute.

    Args:
        network: takes `example` and returns one tensor.
        example: of the type that the graph will take, of `EXAMPLE_SIZE`.
        output: the result's name.
        axes: names of the example's axes.
        output_axes: names of the result's axes.

    Raises:
        ConfigError: onnx is not installed, or the network has a step that ONNX does not know.
    """
    free = {
        name: {axis: size for axis, size in enumerate(sizes) if size in _FREE}
        for name, sizes in (("image", axes), (output, output_axes))
    }
    buffer = io.BytesIO()
    with torch.inference_mode(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # It is to be replaced by the other one some day, and says so; sizes are meant to be traced, and it warns.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                network,
                (example,),
                buffer,  # type: ignore[arg-type]  # which this exporter takes
                dynamo=False,
                opset_version=OPSET,
                input_names=["image"],
                output_names=[output],
                dynamic_axes=free,
            )
        except (ModuleNotFoundError, torch.onnx.OnnxExporterError) as error:
            raise ConfigError(_reason(error)) from error
    return buffer.getvalue()


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return "onnx is not installed: pip install onnx"
    return f"this network cannot be written as ONNX: {first_line(error).split('. Please')[0]}."


class BinPooling(nn.Module):
    """What `nn.AdaptiveAvgPool2d` computes, as two matrix products whose sizes may be unknown beforehand.

    ONNX has no adaptive pooling: its exporter writes it for sizes that are known and divide evenly.

    Args:
        bins: rows and columns of the result.

    >>> x = torch.rand(2, 3, 7, 11)
    >>> torch.allclose(BinPooling((3, 6))(x), nn.AdaptiveAvgPool2d((3, 6))(x))
    True
    """

    def __init__(self, bins: tuple[int, int]) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the averages (N, C, *bins)."""
        rows, columns = (
            _shares(size, count, x) for size, count in zip((x.shape[2], x.shape[3]), self.bins, strict=True)
        )
        return rows @ (x @ columns.transpose(0, 1))


def _shares(size: int, bins: int, like: Tensor) -> Tensor:
    """The share of each pixel in each bin, (bins, size); bins overlap where they do not divide the size evenly."""
    pixel = torch.arange(size, device=like.device)
    index = torch.arange(bins, device=like.device)[:, None]
    start = index * size // bins
    end = ((index + 1) * size + bins - 1) // bins
    inside = ((pixel >= start) & (pixel < end)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


def _pair(size: int | tuple[int | None, ...] | None) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if size is None or len(size) != 2 or size[0] is None or size[1] is None:
        return None
    return size[0], size[1]
