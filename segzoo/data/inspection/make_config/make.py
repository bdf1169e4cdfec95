"""A folder looked at, and a configuration written for it, with the reason for each choice beside it."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from segzoo.config.json_schema import schema_line
from segzoo.config.load import load_config
from segzoo.data.datasets.classes import find_class_list
from segzoo.data.datasets.spec import input_folders
from segzoo.data.inspection.make_config.choose import Choice, Choices, Machine, choose_training, this_machine
from segzoo.data.inspection.make_config.classes import Classes, choose_classes
from segzoo.data.inspection.make_config.facts import Facts, collect_facts
from segzoo.data.inspection.make_config.layout import Layout, Stated, find_layout
from segzoo.data.inspection.make_config.pixels import find_pixels
from segzoo.data.reading.labels import color_number
from segzoo.data.reading.pixels import PixelFormat
from segzoo.data.reading.tree import is_folder
from segzoo.errors import ConfigError, printable
from segzoo.escapes import yaml_value
from segzoo.files import atomic_write, check_outputs, make_output, possible_output


def config_text(head: Sequence[str], choices: Choices, classes: Classes) -> str:
    """The file.

    Args:
        head: comment lines at the top.
        choices: every key, in order; keys of a section next to each other.
        classes: for the key that names the classes, which comes one line a class.
    """
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


@dataclass(frozen=True)
class MadeConfig:
    """What was written, and what it was made of.

    Args:
        path: of the configuration.
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
    layout = find_layout(real, stated)
    make_output(output.parent)  # before all files are read
    config = stated.config(layout.tree())
    check_outputs([output], overwrite=False, inputs=input_folders(config))
    if stated.values.keys().isdisjoint({"data.channels", "data.value_range"}):
        pixels = find_pixels(layout)
        config = stated.config({**layout.tree(), "channels": pixels.channels, "value_range": pixels.value_range})
    listed = find_class_list(layout.root)
    colors = {*map(color_number, listed.colors)}
    facts = collect_facts(layout, config, colors, stated=stated.classes, progress=progress)
    classes = choose_classes(facts, layout.root, listed)
    machine = machine or this_machine()
    choices = {
        **_place_choices(layout, facts, classes),
        **_pixel_choices(PixelFormat.of(config)),
        **choose_training(facts, classes, machine),
    }
    choices = _with_stated(choices, stated)
    findings = _findings(layout, facts, classes, machine)
    editors = schema_line(output)
    head = [*([editors] if editors else []), *findings, f"segzoo train {output}"]
    with atomic_write(output) as written:
        written.write_text(config_text(head, choices, classes), encoding="utf-8")
        _refuse_unreadable(written, output)
    return MadeConfig(output, tuple(findings), classes.nameless)


def _refuse_unreadable(written: Path, output: Path) -> None:
    """Read a configuration the way training will, before it has its name.

    Raises:
        ConfigError: training would refuse it.
    """
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


def _place_choices(layout: Layout, facts: Facts, classes: Classes) -> Choices:
    choices = {
        "data.name": Choice(layout.name, layout.reason),
        "data.root": Choice(str(layout.root), "absolute, so that the command works from anywhere"),
        "data.train_split": Choice(layout.train_split, _images(facts.train_images)),
        "data.val_split": Choice(layout.val_split, _images(facts.val_images)),
    }
    choices |= _folder_choices(layout) if layout.name == "folder" else {}
    return {**choices, **_class_choices(layout, classes)}


def _folder_choices(layout: Layout) -> Choices:
    choices = {"data.folder.images": Choice(layout.images), "data.folder.masks": Choice(layout.masks)}
    if layout.lists:
        choices["data.folder.lists"] = Choice(layout.lists, "has the lists of both splits")
    if layout.class_folders:
        choices["data.folder.multi_label"] = Choice(True, "a pixel may have several classes, or none")
    for key, value in layout.affixes.stated().items():
        kind, _, where = key.partition("_")
        place = "before" if where == "prefix" else "after"
        reason = f"{place} the part of its name that {'an image' if kind == 'image' else 'a mask'} shares"
        choices[f"data.folder.{key}"] = Choice(value, reason)
    return choices


def _class_choices(layout: Layout, classes: Classes) -> Choices:
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


def _findings(layout: Layout, facts: Facts, classes: Classes, machine: Machine) -> list[str]:
    names = ", ".join(classes.names[:8]) + (", ..." if len(classes.names) > 8 else "")
    return [
        f"data: {layout.root} ({layout.reason})",
        f"images: {facts.train_images} for training, {facts.val_images} for validation, median {facts.height} x "
        f"{facts.width}, {_kinds(facts.kinds)}",
        f"classes: {len(classes.names)} ({names}); {classes.reason}",
        f"machine: {machine}",
        *(f"warning: {line}" for line in facts.warnings),
    ]


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _kinds(kinds: Counter[str]) -> str:
    if len(kinds) == 1:
        return next(iter(kinds))
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
