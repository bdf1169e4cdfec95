"""Every key of the configuration as Markdown tables, made from the shipped JSON schema."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from segzoo.config.json_schema import JsonSchema, shipped_schema
from segzoo.config.load import SCHEMAS


@dataclass(frozen=True)
class KeyRow:
    """One key.

    Args:
        key: with its sections, `data.batch_size`.
        kind: the values that it takes.
        default: as YAML; None where the key has to be given.
        meaning: its docstring.
    """

    key: str
    kind: str
    default: str | None
    meaning: str


@dataclass(frozen=True)
class SectionTable:
    """The keys of one section, without those of the sections in it.

    Args:
        name: `data.folder`; empty at the top level.
        meaning: what the section is for.
        rows: its keys.
    """

    name: str
    meaning: str
    rows: tuple[KeyRow, ...]


def config_reference() -> str:
    """Markdown: a heading of the second level for each task, of the third for each section, and its table.

    Sections that are the same for every task stand once, with the first.
    """
    schema = shipped_schema()
    lines: list[str] = []
    known: set[SectionTable] = set()
    for task, model in SCHEMAS.items():
        tables = [table for table in section_tables(schema, model.__name__) if table not in known]
        lines += [f"## {task.capitalize()}", ""]
        if known:
            lines += ["What is not listed here is as above.", ""]
        for table in tables:
            lines += _table_lines(table, f" ({task})" if known else "")
        known.update(tables)
    return "\n".join(lines)


def section_tables(schema: JsonSchema, definition: str) -> Iterator[SectionTable]:
    """The top level, then every section in the schema's order.

    Args:
        schema: as `json_schema` makes it.
        definition: the task's.
    """
    definitions = schema["definitions"]
    yield from _tables(definitions, definitions[definition], "", "Keys at the top level.")


def _tables(
    definitions: Mapping[str, JsonSchema], section: JsonSchema, name: str, meaning: str, demanded: tuple[str, ...] = ()
) -> Iterator[SectionTable]:
    prefix = f"{name}." if name else ""
    required = (*section.get("required", ()), *demanded)
    rows: list[KeyRow] = []
    below: list[SectionTable] = []
    for key, schema in section["properties"].items():
        if "allOf" in schema:
            inner = definitions[schema["allOf"][0]["$ref"].rpartition("/")[2]]
            below += _tables(definitions, inner, prefix + key, schema["description"], tuple(schema.get("required", ())))
        else:
            default = None if key in required else _yaml(schema.get("default"))
            rows.append(KeyRow(prefix + key, kind_text(schema), default, schema["description"]))
    if rows:
        yield SectionTable(name, meaning, tuple(rows))
    yield from below


def kind_text(schema: JsonSchema) -> str:
    """The values that a schema allows, as Markdown.

    >>> kind_text({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]})
    'integer ≥ 1, or null'
    >>> kind_text({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2})
    'list of 2, each number'
    """
    if "anyOf" in schema:
        return ", or ".join(dict.fromkeys(kind_text(option) for option in schema["anyOf"]))
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(f"`{_yaml(value)}`" for value in values)
    if "$ref" in schema:
        return "changes"
    kind = _KINDS[schema["type"]]
    if kind == "list":
        least, most = schema.get("minItems"), schema.get("maxItems")
        count = f" of {least}" if least is not None and least == most else ""
        return f"list{count}, each {kind_text(schema['items'])}"
    if kind == "mapping":
        values = schema.get("additionalProperties")
        return f"mapping to {kind_text(values)}" if isinstance(values, dict) else "mapping"
    return " ".join(
        [kind, ", ".join(f"{sign} {_yaml(schema[word])}" for word, sign in _BOUNDS if word in schema)]
    ).strip()


_KINDS = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
    "array": "list",
    "object": "mapping",
}
_BOUNDS = (
    ("minimum", "≥"),
    ("exclusiveMinimum", ">"),
    ("maximum", "≤"),
    ("exclusiveMaximum", "<"),
    ("multipleOf", "a multiple of"),
)


def _yaml(value: Any) -> str:
    """A default as one writes it."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _table_lines(table: SectionTable, suffix: str) -> list[str]:
    lines = [f"### {table.name or 'top level'}{suffix}", "", escaped(table.meaning), ""]
    lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for row in table.rows:
        default = "required" if row.default is None else f"`{row.default}`"
        lines.append(f"| `{row.key}` | {row.kind} | {default} | {escaped(row.meaning)} |")
    return [*lines, ""]


def escaped(text: str) -> str:
    r"""Plain text for Markdown; what stands between backticks is code and stays, but for the bars of a table.

    >>> escaped("masks/<class>, a * b, `--help` [1]")
    'masks/&lt;class>, a \\* b, `--help` \\[1]'
    """
    parts = text.replace("|", r"\|").split("`")
    for place in range(0, len(parts), 2):
        parts[place] = parts[place].replace("<", "&lt;")
        for sign in "*_[":
            parts[place] = parts[place].replace(sign, rf"\{sign}")
    return "`".join(parts)
