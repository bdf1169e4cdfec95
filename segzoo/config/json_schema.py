"""The configuration as a JSON schema, with which editors complete keys, explain them and mark what is wrong.

The file is shipped with the package; `python tools/config_schema.py` writes it anew after a change to the schema. What
depends on several keys at once, such as exactly one of max_steps and max_epochs, is left to `load_config`.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from segzoo.config.load import SCHEMAS, KnownNames
from segzoo.config.stages import stage_key_problems

SCHEMA_FILE = Path(__file__).with_name("schema.json")
"""The schema as shipped."""

MODELINE = "yaml-language-server: $schema="
"""What a comment begins with that names the schema of a YAML file, as editors look for it."""

JsonSchema = dict[str, Any]

_REF = "#/definitions/"
# Draft 7 is what editors know; there `$ref` hides all that stands beside it, so that it always stands alone here.
_DRAFT = "http://json-schema.org/draft-07/schema#"


def json_schema(known_names: KnownNames) -> JsonSchema:
    """The schema of a configuration file: `task` says of which kind.

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
        for key, names in _names_of(task, known_names):
            _propose(run, key.split("."), names, definitions)
        run["properties"]["stages"]["items"] = _add_stage(run, task.capitalize(), definitions)
    for task, model in SCHEMAS.items():
        runs[task]["required"] = required[model.__name__]
    return {
        "$schema": _DRAFT,
        "title": "segzoo",
        "description": "A run of segzoo.",
        "type": "object",
        "properties": {"task": _any_task(runs)},
        **_by_task(SCHEMAS),
        "definitions": dict(sorted(definitions.items())),
    }


def write_schema(known_names: KnownNames) -> None:
    """Write the schema to `SCHEMA_FILE`."""
    text = json.dumps(json_schema(known_names), indent=1, ensure_ascii=False)
    SCHEMA_FILE.write_text(text + "\n", encoding="utf-8")


def shipped_schema() -> JsonSchema:
    """What `SCHEMA_FILE` holds."""
    return cast(JsonSchema, json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


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
    """Pydantic's schema in the words of draft 7, without what only repeats: titles, and defaults of whole sections."""
    schema = {key: value for key, value in schema.items() if key != "title" and (key, value) != _OPEN}
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
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


def _names_of(task: str, known_names: KnownNames) -> Iterator[tuple[str, list[str]]]:
    """Dotted keys and names for one task; its own come last, and prevail."""
    for key, names in known_names.items():
        if ":" not in key:
            yield key, list(names)
    for key, names in known_names.items():
        if key.startswith(f"{task}:"):
            yield key.removeprefix(f"{task}:"), list(names)


def _propose(section: JsonSchema, key: list[str], names: list[str], definitions: Mapping[str, JsonSchema]) -> None:
    """Put names beside a key, as examples or as the keys of its mapping; nothing where this task has no such key."""
    schema = section["properties"].get(key[0])
    if schema is None:
        return
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


def _by_task(schemas: Mapping[str, type[BaseModel]]) -> JsonSchema:
    """`if` the task is this one `then` its schema, `else` the next one; the first is meant where nothing is said."""
    (_, first), *others = schemas.items()
    branch: JsonSchema = {"$ref": _REF + first.__name__}
    for task, model in others:
        asked = {"properties": {"task": {"const": task}}, "required": ["task"]}
        branch = {"if": asked, "then": {"$ref": _REF + model.__name__}, "else": branch}
    return branch
