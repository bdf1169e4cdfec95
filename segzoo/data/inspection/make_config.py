"""A folder looked at, and a configuration written for it, with the reason for each choice beside it."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from segzoo.config.data import DataConfig
from segzoo.config.explain import schema_line
from segzoo.config.load import load_config
from segzoo.data.datasets.classes import find_class_list
from segzoo.data.datasets.folder_names import NO_AFFIXES
from segzoo.data.datasets.spec import input_folders
from segzoo.data.inspection.choices import Choice, Choices, Facts, Machine, choose_training, this_machine
from segzoo.data.inspection.classes import Classes, FolderFacts, choose_classes, collect_facts
from segzoo.data.inspection.image_format import find_image_format
from segzoo.data.inspection.layout import Stated, find_layout
from segzoo.data.reading.labels import color_number
from segzoo.data.reading.pixels import PixelFormat
from segzoo.data.reading.tree import is_folder
from segzoo.errors import ConfigError, printable
from segzoo.escapes import yaml_value
from segzoo.files import atomic_write, check_outputs, make_output, possible_output


@dataclass(frozen=True)
class MadeConfig:
    """What was written, and what it was made of.

    Args:
        findings: what the folder and the machine are, a line each.
        nameless: whether the classes have numbers for names, because nothing says what they are.
    """

    path: Path
    findings: tuple[str, ...]
    nameless: bool


def make_config(
    folder: Path,
    output: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    machine: Machine | None = None,
    progress: bool = True,
) -> MadeConfig:
    """Write a configuration that trains on a folder of images and masks.

    Args:
        folder: the data set.
        output: file to write; None is <folder>.yaml in the working directory.
        overrides: `data.key=value` strings, which count for more than what is found.
        machine: that will train; None is this one.
        progress: show a bar on standard error.

    Raises:
        ConfigError: an override that cannot be, nothing there, no layout that is known, or the file exists or cannot be
            written.
        DataError: files do not fit together or cannot be read; all problems in one go.
    """
    if not is_folder(folder.expanduser()):
        raise ConfigError(f"{folder}: no such folder.")
    real = Path(os.path.realpath(folder.expanduser()))  # `resolve` raises where links go in circles
    output = possible_output(output or Path(f"{real.name}.yaml"))
    if output.exists():
        raise ConfigError(f"{output}: exists already. Name another file: --output FILE")
    stated = Stated(tuple(overrides))
    config, reason = find_layout(real, stated)
    make_output(output.parent)  # before all files are read
    check_outputs([output], overwrite=False, inputs=input_folders(config))
    if stated.values.keys().isdisjoint({"data.channels", "data.value_range"}):
        found = find_image_format(config)
        seen = {"channels": found.channels, "value_range": found.value_range}
        config = stated.config(config.model_dump(mode="json", exclude_unset=True) | seen)
    root = Path(config.root or "")
    listed = find_class_list(root)
    colors = {*map(color_number, listed.colors)}
    data = collect_facts(config, colors, meanings_stated=stated.meanings, progress=progress)
    facts = Facts(data, choose_classes(data, root, listed), machine or this_machine())
    choices = {
        **_place_choices(config, reason, data),
        **_class_choices(facts.classes),
        **_pixel_choices(PixelFormat.of(config)),
        **choose_training(facts),
    }
    findings = _findings(f"{root} ({reason})", facts)
    editors = schema_line(output)
    head = [*([editors] if editors else []), *findings, f"segzoo train {output}"]
    text = _config_text(head, _with_stated(choices, stated), facts.classes)
    with atomic_write(output) as written:
        written.write_text(text, encoding="utf-8")
        _check_loads(written, output)
    return MadeConfig(output, tuple(findings), facts.classes.nameless)


def _check_loads(written: Path, output: Path) -> None:
    """Read a configuration the way training will, before it has its name."""
    try:
        load_config(written)
    except ConfigError as error:
        raise ConfigError(line.replace(str(written), str(output)) for line in error.problems) from None


def _with_stated(choices: Choices, stated: Stated) -> Choices:
    """The choices with what somebody said in place of them, or beside their like."""
    items = dict(choices)
    for key, value in stated.values.items():
        names = list(items)
        section = next(part for part in (key.rpartition(".")[0], "data") if any(_is_in(name, part) for name in names))
        last = max(index for index, name in enumerate(names) if _is_in(name, section))
        if key not in items:
            names.insert(last + 1, key)
        items = {name: Choice(value, "as you said") if name == key else items[name] for name in names}
    return items


def _is_in(key: str, section: str) -> bool:
    return key.startswith(f"{section}.")


def _place_choices(config: DataConfig, reason: str, data: FolderFacts) -> Choices:
    """Where the data is."""
    choices = {
        "data.name": Choice(config.name, reason),
        "data.root": Choice(config.root, "absolute, so that the command works from anywhere"),
        "data.train_split": Choice(config.train_split, _images(data.train_images)),
        "data.val_split": Choice(config.val_split, _images(data.val_images)),
    }
    if config.name != "folder":
        return choices
    choices |= {"data.folder.images": Choice(config.folder.images), "data.folder.masks": Choice(config.folder.masks)}
    if config.folder.lists:
        choices["data.folder.lists"] = Choice(config.folder.lists, "has the lists of both splits")
    if config.folder.multi_label:
        choices["data.folder.multi_label"] = Choice(True, "a pixel may have several classes, or none")
    for key, value in ((key, getattr(config.folder, key)) for key in asdict(NO_AFFIXES)):
        if not value:
            continue
        kind, _, where = key.partition("_")
        place = "before" if where == "prefix" else "after"
        shared = f"{place} the part of its name that {'an image' if kind == 'image' else 'a mask'} shares"
        choices[f"data.folder.{key}"] = Choice(value, shared)
    return choices


def _class_choices(classes: Classes) -> Choices:
    """What the masks mean."""
    choices: Choices = {}
    if classes.offset:
        choices["data.folder.mask_offset"] = Choice(classes.offset, "of the numbers in the masks")
    if classes.ignored:
        choices["data.folder.ignore_value"] = Choice(list(classes.ignored), "below 0: no class")
    if classes.key:
        advice = "rename the classes as you like" if classes.exclusive else "leave out what need not be learned"
        choices[classes.key] = Choice(None, f"{classes.reason}; {advice}")
    if classes.ignored_names:
        choices["data.ignore_classes"] = Choice(list(classes.ignored_names), "left out of training and scores")
    elif classes.nameless:
        advice = f"or [{classes.names[-1]}], if that is a border drawn around things: left out of training and scores"
        choices["data.ignore_classes"] = Choice(None, advice)
    return choices


def _pixel_choices(pixels: PixelFormat) -> Choices:
    choices: Choices = {}
    if pixels.channels != PixelFormat().channels:
        choices["data.channels"] = Choice(pixels.channels, "of the images, all of which the network takes")
    if pixels.value_range is not None:
        choices["data.value_range"] = Choice(list(pixels.value_range), "values that mean 0 and 1, from some images")
    return choices


def _findings(place: str, facts: Facts) -> list[str]:
    data, names = facts.data, facts.classes.names
    kinds = [f"{count} {kind}" for kind, count in data.kinds.most_common()] if len(data.kinds) > 1 else [*data.kinds]
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return [
        f"data: {place}",
        f"images: {data.train_images} for training, {data.val_images} for validation, median {data.height} x "
        f"{data.width}, {', '.join(kinds)}",
        f"classes: {len(names)} ({listed}); {facts.classes.reason}",
        f"machine: {facts.machine}",
        *(f"warning: {line}" for line in data.warnings),
    ]


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _config_text(head: Sequence[str], choices: Choices, classes: Classes) -> str:
    """The file: comments at the top, then the keys, those of a section next to each other, a line for each class."""
    lines = [f"# {printable(line)}" for line in head]
    sections: list[str] = []
    for key, choice in choices.items():
        *parents, name = key.split(".")
        for depth, parent in enumerate(parents):
            if sections[: depth + 1] != parents[: depth + 1]:
                lines.append(f"{'  ' * depth}{parent}:")
                sections = parents[: depth + 1]
        sections = parents
        indent = "  " * len(parents)
        if key == classes.key:
            lines.append(f"{indent}{name}:{_comment(choice)}")
            lines += (f"{indent}  {line}" for line in _class_lines(classes))
        else:
            lines.append(f"{indent}{name}: {yaml_value(choice.value)}{_comment(choice)}")
    return "\n".join(lines) + "\n"


def _class_lines(classes: Classes) -> Iterator[str]:
    """Each class with its share of the training pixels."""
    total = max(sum(classes.pixels), 1)
    for index, (name, count) in enumerate(zip(classes.names, classes.pixels, strict=True)):
        share = f" # {100 * count / total:.3g} % of the pixels"
        if classes.values:
            yield f"{yaml_value(name)}: {yaml_value(classes.values[index])}{share}"
        else:
            yield f"- {yaml_value(name)}{share}"


def _comment(choice: Choice) -> str:
    return f" # {printable(choice.reason)}" if choice.reason else ""
