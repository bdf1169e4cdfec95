"""A configuration as YAML with the reason for each choice beside it."""

from collections.abc import Iterator, Sequence

from segzoo.data.make_config.choose import Choice, Choices
from segzoo.data.make_config.classes import Classes
from segzoo.errors import printable
from segzoo.escapes import yaml_value


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
