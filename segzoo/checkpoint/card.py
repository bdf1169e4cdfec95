"""The model card: what a saved model is, how good, and where it comes from, for people who find its folder."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from segzoo.backbones.weights.models import PUBLISHED_MODELS
from segzoo.backbones.weights.published import find_published
from segzoo.checkpoint.read import AnyTrained, TrainedClassifier, TrainedSegmenter
from segzoo.config.classification import (
    AnyRunConfig,
    ClassificationDataConfig,
    ClassificationRunConfig,
    ClassifierModelConfig,
)
from segzoo.config.data import SharedDataConfig
from segzoo.config.load import dump_config
from segzoo.config.schema import ModelConfig, RunConfig
from segzoo.data.reading.pixels import PixelFormat
from segzoo.escapes import Column, markdown_table, markdown_text


@dataclass(frozen=True)
class Words:
    """What a card says of the networks of one task.

    Args:
        kind: what the task is called in a sentence.
        pipeline: the hub's name for the task.
        tag: what people search such networks by.
        predictor: the class of `segzoo` that uses the network.
        use: a line of Python with an object `predictor` of that class.
        titles: the name of a metric -> its heading.
        part: what stands behind the backbone, as a tag and in a sentence, by the model section.
        protocol: how the metrics were measured, by the network and the run as it is shown to others.
        sizes: which images the network takes, by the data section.
    """

    kind: str
    pipeline: str
    tag: str
    predictor: str
    use: str
    titles: Mapping[str, str]
    part: Callable[[Any], tuple[str | None, str]]
    protocol: Callable[[Any, Any], str]
    sizes: Callable[[Any], str]


def model_card(source: AnyTrained, config: AnyRunConfig, name: str) -> str:
    """A README in Markdown, with the head that the Hugging Face hub reads.

    Args:
        config: the run it was trained in, as it is shown to others.
        name: what to load it by: the folder, or `owner/name` on the hub.
    """
    words = WORDS[config.task]
    tags = [words.tag, "xception", config.model.backbone.name, words.part(config.model)[0]]
    head = {"library_name": "segzoo", "pipeline_tag": words.pipeline, "tags": list(dict.fromkeys(filter(None, tags)))}
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())  # JSON is YAML
    sections = {
        "": _use(words, name),
        "Results": _results(words, source, config),
        "Network": _network(words, source, config),
        "Preprocessing": _preprocessing(words, config.data),
        "Classes": _classes(source),
        "Where it comes from": _origin(config, source.description.step),
        "Training": _training(config, source.description.step),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" if title else text for title, text in sections.items())
    return f"---\n{front}\n---\n\n# {markdown_text(PurePath(name).name)}\n\n{body}\n"


def started_from(config: ModelConfig | ClassifierModelConfig) -> tuple[str, str]:
    """What a network's training started from, and the licence of that.

    >>> started_from(ModelConfig())
    ('random weights', 'none, for nothing was taken over')
    """
    unknown = "not known to segzoo: the one that the file's source states"
    part, origin = ("whole network", config.weights) if config.weights else ("backbone", config.backbone.weights)
    for model in PUBLISHED_MODELS:
        if origin in (model.name, model.archive):
            return f"the {part} of {model.name}, published as {model.archive}", model.licence
    if config.weights is not None:
        return f"the whole network of {config.weights}", unknown
    weights = config.backbone.weights
    if weights is None:
        return "random weights", "none, for nothing was taken over"
    entry = find_published(config.backbone.name, weights)
    if entry is None:
        return f"the backbone of {weights}", unknown
    return f"the backbone {entry.backbone}, published as {entry.tag} at {entry.source}", entry.licence


def _use(words: Words, name: str) -> str:
    return f"""{words.kind} with [segzoo](https://github.com/segzoo/segzoo), in three lines:

```python
import segzoo
predictor = segzoo.{words.predictor}({json.dumps(name)})
{words.use}
```"""


def _results(words: Words, source: AnyTrained, config: AnyRunConfig) -> str:
    measured = {key.removeprefix("val/"): value for key, value in source.description.metrics.items()}
    if not measured:
        return "These weights were not measured."
    columns: list[Column[tuple[str, float | None]]] = [
        Column(
            f"on {config.data.name}, split {config.data.val_split}",
            lambda row: words.titles.get(row[0], row[0]),
            words=True,
        ),
        Column("value", lambda row: "n/a" if row[1] is None else f"{row[1]:.2%}"),
    ]
    weights = "averaged weights, " if config.optimizer.ema_decay else ""
    return "\n".join(
        [
            markdown_table(columns, list(measured.items())),
            "",
            f"Protocol: {words.protocol(source, config)}; {weights}after {source.description.step:,} steps.",
        ]
    )


def _network(words: Words, source: AnyTrained, config: AnyRunConfig) -> str:
    backbone = config.model.backbone
    parameters = sum(parameter.numel() for parameter in source.network.parameters())
    behind = words.part(config.model)[1].format(f"backbone `{backbone.name}` at width {backbone.width:g}")
    return f"{behind}: {parameters:,} parameters. {words.sizes(config.data)}"


def _preprocessing(words: Words, config: SharedDataConfig) -> str:
    numbers = config.preprocessing
    unit = "pixel / 255" if PixelFormat.of(config).is_rgb8 else "pixel in units of its full range"
    span = f" The full range is {list(config.value_range)}." if config.value_range is not None else ""
    order = "RGB" if config.channels == 3 else f"{config.channels} channels, as stored"
    return (
        f"`({unit} - mean) / std` for each channel, {order}; mean {list(numbers.mean)}, std {list(numbers.std)}.{span} "
        f"`segzoo.{words.predictor}` does it."
    )


def _classes(source: AnyTrained) -> str:
    labels = source.labels
    columns: list[Column[int]] = [
        Column("index", str),
        Column("class", lambda index: labels.names[index], words=True),
    ]
    if labels.palette:
        columns.append(Column("colour (RGB)", lambda index: str(list(labels.palette[index])), words=True))
    table = markdown_table(columns, range(len(labels.names)))
    if labels.coding.exclusive:
        return table
    thing = "A pixel" if labels.palette else "An image"
    return f"{thing} may have several classes, or none: each is decided on its own.\n\n{table}"


def _origin(config: AnyRunConfig, steps: int) -> str:
    origin, licence = started_from(config.model)
    if not steps:
        return (
            f"It is {markdown_text(origin)}, converted and trained no further. Licence: {markdown_text(licence)}. "
            f"Its classes are those of the data set {markdown_text(config.data.name)}, which has a licence of its own."
        )
    return (
        f"Training started from {markdown_text(origin)}. Licence of what it started from: {markdown_text(licence)}. It "
        f"was trained on the data set {markdown_text(config.data.name)}, which has a licence of its own."
    )


def _training(config: AnyRunConfig, steps: int) -> str:
    lead = "With this as `config.yaml`: `segzoo train config.yaml data.root=FOLDER`"
    text = dump_config(config).rstrip()
    fence = max(["``", *re.findall("`+", text)], key=len) + "`"  # longer than any within, which would end it
    return f"""{lead if steps else "By others. This configuration describes the network."}

<details><summary>config.yaml</summary>

{fence}yaml
{text}
{fence}

</details>"""


def _mask_protocol(source: TrainedSegmenter, config: RunConfig) -> str:
    exclusive = source.labels.coding.exclusive
    counts = "one confusion matrix" if exclusive else "one table for each class, of its own pixels,"
    stride = config.model.eval_output_stride or config.model.output_stride
    return (
        f"{counts} over the whole split, at the images' own resolution; pixels of value {source.labels.ignore_index} "
        "are left out, as are classes that are neither in the truth nor predicted; one scale, no flip; output stride "
        f"{stride}"
    )


def _image_protocol(source: TrainedClassifier, config: ClassificationRunConfig) -> str:
    return (
        f"every image of the split once, {_window(config.data)}; mAP is the mean over the classes that the truth has "
        "of the area under the precision-recall curve"
    )


def _window(config: ClassificationDataConfig) -> str:
    height, width = config.image_size
    return f"of which the network sees the central {config.center_crop:.4g} of each side, scaled to {height}×{width}"


def _decoder(config: ModelConfig) -> tuple[str, str]:
    return config.decoder, f"Decoder `{config.decoder}` on {{}}, trained at output stride {config.output_stride}"


def _pooling(config: ClassifierModelConfig) -> tuple[None, str]:
    widths = (
        config.fc_width if isinstance(config.fc_width, tuple) else (config.fc_width,) * 2 if config.fc_width else ()
    )
    layers = f", fully connected layers of {', '.join(map(str, widths))}" if widths else ""
    return None, f"Class scores behind global average pooling{layers} on {{}}"


WORDS: Mapping[str, Words] = {
    "segmentation": Words(
        kind="Semantic segmentation",
        pipeline="image-segmentation",
        tag="semantic-segmentation",
        predictor="Predictor",
        use='predictor("photo.jpg").save("mask.png")',
        titles={"miou": "mIoU", "pixel_accuracy": "pixel accuracy"},
        part=_decoder,
        protocol=_mask_protocol,
        sizes=lambda data: "It takes images of every size.",
    ),
    "classification": Words(
        kind="Image classification",
        pipeline="image-classification",
        tag="image-classification",
        predictor="ClassPredictor",
        use='predictor("photo.jpg").top(5)',
        titles={"top1": "top-1", "top5": "top-5", "map": "mAP", "map_at_100": "MAP@100"},
        part=_pooling,
        protocol=_image_protocol,
        sizes=lambda data: f"It takes images of every size, {_window(data)}.",
    ),
}
"""`task` -> what a card says."""
