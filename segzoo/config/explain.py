"""The schema explained: every key for `--help`, for the pages of the documentation, and for editors.

`schema_keys` walks over the keys; `explain_text` prints them for `--help`, `config_reference` as Markdown tables.
`json_schema` is what editors complete, explain and check keys by. What depends on several keys at once, such as exactly
one of max_steps and max_epochs, is left to `load_config`. Configurations name it by its path, so that it is a file of
the package, which `python tools/config_schema.py` writes. It is kept with the code because the names that it proposes
come from registries that need torch, which is not installed where a package is built.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema

from segzoo.config.load import SCHEMAS, KnownNames, names_of_task
from segzoo.config.trees import stage_key_problems

SCHEMA_FILE = Path(__file__).with_name("schema.json")
"""The JSON schema as shipped."""

MODELINE = "yaml-language-server: $schema="
"""What a comment begins with that names the schema of a YAML file, as editors look for it."""

JsonSchema = dict[str, Any]

_REF = "#/definitions/"
# Draft 7 is what editors know; there `$ref` hides all that stands beside it, so that it always stands alone here.
_DRAFT = "http://json-schema.org/draft-07/schema#"


class Key(NamedTuple):
    """One key of the configuration.

    Args:
        sections: the names of those it lies in, from the top level on.
        name: of the key itself.
        field: its type, default and meaning.
        model: the section that defines it.
        purpose: what that section is for; empty at the top level.
    """

    sections: tuple[str, ...]
    name: str
    field: FieldInfo
    model: type[BaseModel]
    purpose: str

    @property
    def path(self) -> str:
        """The key with its sections, `data.batch_size`."""
        return ".".join((*self.sections, self.name))

    @property
    def meaning(self) -> str:
        """Its docstring, on one line."""
        return _one_line(self.field.description)

    @property
    def default(self) -> Any:
        """The default as YAML has it, which knows lists and no tuples; without meaning where the key is required."""
        value = self.field.default
        return list(value) if isinstance(value, tuple) else value


def schema_keys(model: type[BaseModel], sections: tuple[str, ...] = (), purpose: str = "") -> Iterator[Key]:
    """Every key of a schema, with those of the sections in it where these stand."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from schema_keys(kind, (*sections, name), _one_line(field.description))
        else:
            yield Key(sections, name, field, model, purpose)


def explain_text() -> str:
    """All keys, two lines each, as the end of a command's `--help`; for classification those that differ."""
    first, second = ([_help_lines(key) for key in schema_keys(model)] for model in SCHEMAS.values())
    return "\n".join(
        [
            "configuration keys, as key.sub=value or --key.sub value:",
            "",
            *first,
            "",
            "task=classification has data, model, loss and evaluation sections of its own; what is not as above:",
            "",
            *(lines for lines in second if lines not in first),
        ]
    )


def _help_lines(key: Key) -> str:
    default = " (required)" if key.field.is_required() else f" = {'null' if key.default is None else key.default}"
    return f"  {key.path}: {_type_text(key.field.annotation)}{default}\n      {key.meaning}"


def _type_text(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type_text(arguments[0])
    if origin in (Union, UnionType):
        return " | ".join(_type_text(argument) for argument in arguments)
    if origin is Literal:
        return " | ".join(str(argument) for argument in arguments)
    return _TYPES.get(origin or kind, getattr(kind, "__name__", str(kind)))


_TYPES: Mapping[Any, str] = {
    bool: "true | false",
    dict: "mapping",
    float: "number",
    int: "integer",
    str: "text",
    tuple: "list",
    type(None): "null",
}


def config_reference() -> str:
    """Markdown: a heading of the second level for each task, of the third for each section, and its table.

    Sections that are the same for every task stand once, with the first.
    """
    definitions = json_schema({})["definitions"]
    lines: list[str] = []
    known: list[list[str]] = []
    for task, model in SCHEMAS.items():
        tables: dict[str, list[str]] = {}
        for key in schema_keys(model):
            section = ".".join(key.sections)
            purpose = key.purpose or "Keys at the top level."
            tables.setdefault(section, [section or "top level", purpose]).append(_table_row(key, definitions))
        lines += [f"## {task.capitalize()}", ""]
        if known:
            lines += ["What is not listed here is as above.", ""]
        for table in tables.values():
            if table not in known:
                heading, purpose, *rows = table
                lines += [f"### {heading}{f' ({task})' if known else ''}", "", escaped(purpose), ""]
                lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows, ""]
        known += tables.values()
    return "\n".join(lines)


def _table_row(key: Key, definitions: Mapping[str, JsonSchema]) -> str:
    kind = kind_text(definitions[key.model.__name__]["properties"][key.name])
    default = "required" if key.field.is_required() else f"`{_yaml(key.default)}`"
    return f"| `{key.path}` | {kind} | {default} | {escaped(key.meaning)} |"


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
        return " or ".join(f"`{_yaml(value)}`" for value in schema.get("enum", [schema.get("const")]))
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
    bounds = ", ".join(f"{sign} {_yaml(schema[word])}" for word, sign in _BOUNDS if word in schema)
    return f"{kind} {bounds}".strip()


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
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def escaped(text: str) -> str:
    r"""Plain text for Markdown; what stands between backticks is code and stays, but for the bars of a table.

    >>> escaped("masks/<class>, a * b, `--help` [1]")
    'masks/&lt;class>, a \\* b, `--help` \\[1]'
    """
    parts = text.replace("|", r"\|").split("`")
    for number in range(0, len(parts), 2):
        parts[number] = parts[number].replace("<", "&lt;")
        for sign in "*_[":
            parts[number] = parts[number].replace(sign, rf"\{sign}")
    return "`".join(parts)


def json_schema(known_names: KnownNames) -> JsonSchema:
    """The JSON schema of a configuration file: `task` says of which kind.

    Args:
        known_names: dotted keys and the names to propose for them; others are not refused.
    """
    models = [(model, "validation") for model in SCHEMAS.values()]
    generated = models_json_schema(models, ref_template=_REF + "{model}")[1]["$defs"]  # type: ignore[arg-type]
    definitions = {name: _tidy(section) for name, section in generated.items()}
    required = {name: section.pop("required", []) for name, section in definitions.items()}
    for section in definitions.values():
        _complete_sections(section, definitions, required)
    runs = {task: definitions[model.__name__] for task, model in SCHEMAS.items()}
    for task, run in runs.items():
        for key, names in names_of_task(known_names, task).items():
            _propose(run, key.split("."), list(names), definitions)
        run["properties"]["stages"]["items"] = _add_stage(run, task.capitalize(), definitions)
    for task, model in SCHEMAS.items():
        runs[task]["required"] = required[model.__name__]
    return {
        "$schema": _DRAFT,
        "title": "segzoo",
        "description": "A run of segzoo.",
        "type": "object",
        "properties": {"task": _any_task(runs)},
        **_by_task(),
        "definitions": dict(sorted(definitions.items())),
    }


def schema_line(config: Path) -> str | None:
    """The comment that has editors check a configuration by the installed schema, without its `#`.

    Args:
        config: the file that the comment stands in. The path is relative where both lie below the working directory,
            so that a project can be moved as a whole.

    Returns:
        None where the package is no files, as in a zip.
    """
    if not SCHEMA_FILE.is_file():
        return None
    here, folder = Path.cwd(), Path(os.path.realpath(config)).parent
    if SCHEMA_FILE.is_relative_to(here) and folder.is_relative_to(here):
        relative = Path(os.path.relpath(SCHEMA_FILE, folder)).as_posix()
        if " " not in relative:  # editors read up to the first space
            return MODELINE + relative
    return MODELINE + SCHEMA_FILE.as_uri()


def _tidy(schema: JsonSchema) -> JsonSchema:
    """Pydantic's schema in the words of draft 7, without titles and defaults of whole sections, which only repeat."""
    schema = {key: value for key, value in schema.items() if key != "title" and (key, value) != _OPEN}
    if "description" in schema:
        schema["description"] = _one_line(schema["description"])
    if "$ref" in schema:
        described = {"description": schema["description"]} if "description" in schema else {}
        return {"allOf": [{"$ref": schema["$ref"]}], **described}
    if "prefixItems" in schema:
        schema["items"] = schema.pop("prefixItems")[0]  # our tuples are of one type
    for end in ("min", "max"):
        if f"{end}Length" in schema and schema.get("type") != "string":  # pydantic's word for it behind a validator
            schema[f"{end}Items"] = schema.pop(f"{end}Length")
    for key, of in _SUBSCHEMAS.items():
        if isinstance(schema.get(key), dict | list):
            schema[key] = of(schema[key])
    return dict(sorted(schema.items()))  # versions of pydantic differ in the order


_OPEN = ("additionalProperties", True)
"""What goes without saying, and what not every version of pydantic says."""

_SUBSCHEMAS: Mapping[str, Callable[[Any], Any]] = {
    "properties": lambda sections: {name: _tidy(schema) for name, schema in sections.items()},
    "anyOf": lambda options: [_tidy(schema) for schema in options],
    "items": _tidy,
    "additionalProperties": _tidy,
}


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _complete_sections(
    section: JsonSchema, definitions: Mapping[str, JsonSchema], required: Mapping[str, list[str]]
) -> None:
    """Say at the sections in a section what they mean, and which keys they have to have.

    A definition does not demand keys, because the changes of a stage need none of them.
    """
    for schema in section["properties"].values():
        if "allOf" not in schema:
            continue
        name = _section_name(schema)
        schema.setdefault("description", definitions[name]["description"])  # pydantic leaves out what it repeats
        if required[name]:
            schema["required"] = required[name]


def _section_name(schema: JsonSchema) -> str:
    """The definition that a key's schema refers to."""
    return str(schema["allOf"][0]["$ref"]).removeprefix(_REF)


def _propose(section: JsonSchema, key: list[str], names: list[str], definitions: Mapping[str, JsonSchema]) -> None:
    """Put names beside a key, as examples or as the keys of its mapping."""
    schema = section["properties"][key[0]]
    if key[1:]:
        _propose(definitions[_section_name(schema)], key[1:], names, definitions)
    elif schema["type"] == "object":
        schema["properties"] = dict.fromkeys(names, schema["additionalProperties"])
    else:
        (schema["items"] if schema["type"] == "array" else schema)["examples"] = names


def _add_stage(run: JsonSchema, name: str, definitions: dict[str, JsonSchema]) -> JsonSchema:
    """Define the changes of a stage, which are the keys of the run that it may change, and refer to them."""
    properties = {}
    for key, schema in run["properties"].items():
        if any(stage_key_problems({key: {}}, 0)):
            continue
        properties[key] = {name: value for name, value in schema.items() if name not in ("default", "required")}
        if "allOf" in schema:
            properties[key]["allOf"] = [_stage_section(key, _section_name(schema), definitions)]
    definitions[f"{name}Stage"] = {
        "description": "Changes of one stage.",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return {"$ref": f"{_REF}{name}Stage"}


def _stage_section(key: str, name: str, definitions: dict[str, JsonSchema]) -> JsonSchema:
    """A reference to a section without the keys that no stage may change."""
    section = definitions[name]
    allowed = {sub: of for sub, of in section["properties"].items() if not any(stage_key_problems({key: {sub: 0}}, 0))}
    if len(allowed) < len(section["properties"]):
        name = f"Stage{name}"
        definitions[name] = {**section, "properties": allowed}
    return {"$ref": _REF + name}


def _any_task(runs: Mapping[str, JsonSchema]) -> JsonSchema:
    default = next(run["properties"]["task"] for run in runs.values() if "default" in run["properties"]["task"])
    return {"enum": list(runs), "default": default["default"], "description": default["description"]}


def _by_task() -> JsonSchema:
    """`if` the task is this one `then` its schema, `else` the next one; the first is meant where nothing is said."""
    (_, first), *others = SCHEMAS.items()
    branch: JsonSchema = {"$ref": _REF + first.__name__}
    for task, model in others:
        asked = {"properties": {"task": {"const": task}}, "required": ["task"]}
        branch = {"if": asked, "then": {"$ref": _REF + model.__name__}, "else": branch}
    return branch
