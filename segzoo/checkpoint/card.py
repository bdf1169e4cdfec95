"""The model card: what a saved model is, how good, and where it comes from, for people who find its folder."""

import json
import re
from pathlib import PurePath

from segzoo.backbones.weights.published import find_published
from segzoo.checkpoint.read import TrainedSegmenter
from segzoo.config.load import dump_config
from segzoo.config.schema import DataConfig, ModelConfig, RunConfig
from segzoo.data.pixels import PixelFormat
from segzoo.escapes import markdown_text
from segzoo.markdown import Column, markdown_table


def model_card(source: TrainedSegmenter, config: RunConfig, name: str) -> str:
    """A README in Markdown, with the head that the Hugging Face hub reads.

    Args:
        source: the network.
        config: the run it was trained in, as it is shown to others.
        name: what to load it by: the folder, or `owner/name` on the hub.
    """
    head = {
        "library_name": "segzoo",
        "pipeline_tag": "image-segmentation",
        "tags": list(
            dict.fromkeys(["semantic-segmentation", "xception", config.model.backbone.name, config.model.decoder])
        ),
    }
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())  # JSON is YAML
    sections = {
        "": _use(name),
        "Results": _results(source, config),
        "Network": _network(source, config.model),
        "Preprocessing": _preprocessing(config.data),
        "Classes": _classes(source),
        "Where it comes from": _origin(config),
        "Training": _training(config),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" if title else text for title, text in sections.items())
    return f"---\n{front}\n---\n\n# {markdown_text(PurePath(name).name)}\n\n{body}\n"


def started_from(config: ModelConfig) -> tuple[str, str]:
    """What a network's training started from, and the licence of that.

    >>> started_from(ModelConfig())
    ('random weights', 'none, for nothing was taken over')
    """
    unknown = "not known to segzoo: the one that the file's source states"
    if config.weights is not None:
        return f"the whole network of {config.weights}", unknown
    weights = config.backbone.weights
    if weights is None:
        return "random weights", "none, for nothing was taken over"
    entry = find_published(config.backbone.name, weights)
    if entry is None:
        return f"the backbone of {weights}", unknown
    return f"the backbone {entry.backbone}, published as {entry.tag} at {entry.source}", entry.licence


def _use(name: str) -> str:
    return f"""Semantic segmentation with [segzoo](https://github.com/segzoo/segzoo), in three lines:

```python
import segzoo
predictor = segzoo.Predictor({json.dumps(name)})
predictor("photo.jpg").save("mask.png")
```"""


def _results(source: TrainedSegmenter, config: RunConfig) -> str:
    measured = {key.removeprefix("val/"): value for key, value in source.description.metrics.items()}
    if not measured:
        return "These weights were not measured."
    titles = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}
    columns: list[Column[tuple[str, float | None]]] = [
        Column(
            f"on {config.data.name}, split {config.data.val_split}",
            lambda row: titles.get(row[0], row[0]),
            words=True,
        ),
        Column("value", lambda row: "n/a" if row[1] is None else f"{row[1]:.2%}"),
    ]
    stride = config.model.eval_output_stride or config.model.output_stride
    weights = "averaged weights, " if config.optimizer.ema_decay else ""
    return "\n".join(
        [
            markdown_table(columns, list(measured.items())),
            "",
            f"Protocol: {_count(source)} over the whole split, at the images' own resolution; pixels of value "
            f"{source.labels.ignore_index} are left out, as are classes that are neither in the truth nor predicted; "
            f"one scale, no flip; output stride {stride}; {weights}after {source.description.step:,} steps.",
        ]
    )


def _count(source: TrainedSegmenter) -> str:
    return "one table for each class, of its own pixels," if source.labels.multi_label else "one confusion matrix"


def _network(source: TrainedSegmenter, config: ModelConfig) -> str:
    backbone = config.backbone
    parameters = sum(parameter.numel() for parameter in source.segmenter.parameters())
    return (
        f"Decoder `{config.decoder}` on backbone `{backbone.name}` at width {backbone.width:g}, trained at output "
        f"stride {config.output_stride}: {parameters:,} parameters. It takes images of every size."
    )


def _preprocessing(config: DataConfig) -> str:
    numbers = config.preprocessing
    unit = "pixel / 255" if PixelFormat.of(config).is_rgb8 else "pixel in units of its full range"
    span = f" The full range is {list(config.value_range)}." if config.value_range is not None else ""
    order = "RGB" if config.channels == 3 else f"{config.channels} channels, as stored"
    return (
        f"`({unit} - mean) / std` for each channel, {order}; mean {list(numbers.mean)}, std {list(numbers.std)}.{span} "
        "`segzoo.Predictor` does it."
    )


def _classes(source: TrainedSegmenter) -> str:
    labels = source.labels
    columns: list[Column[int]] = [
        Column("index", str),
        Column("class", lambda index: labels.names[index], words=True),
        Column("colour (RGB)", lambda index: str(list(labels.palette[index])), words=True),
    ]
    kind = "A pixel may have several classes, or none: each is decided on its own.\n\n" if labels.multi_label else ""
    return kind + markdown_table(columns, range(len(labels.names)))


def _origin(config: RunConfig) -> str:
    origin, licence = started_from(config.model)
    return (
        f"Training started from {markdown_text(origin)}. Licence of what it started from: {markdown_text(licence)}. It "
        f"was trained on the data set {markdown_text(config.data.name)}, which has a licence of its own."
    )


def _training(config: RunConfig) -> str:
    text = dump_config(config).rstrip()
    fence = max(["``", *re.findall("`+", text)], key=len) + "`"  # longer than any within, which would end it
    return f"""With this as `config.yaml`: `segzoo train config.yaml data.root=FOLDER`

<details><summary>config.yaml</summary>

{fence}yaml
{text}
{fence}

</details>"""
