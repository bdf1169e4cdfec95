"""Write the JSON schema of the configuration, which editors read, into the package."""

import json
from collections.abc import Sequence

from segzoo.cli import CommandParser, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if it is out of date")
    arguments = parser.parse_args(argv)

    from segzoo.config.explain import SCHEMA_FILE, json_schema
    from segzoo.tasks.names import known_names

    schema = json_schema(known_names())
    if arguments.check:
        current = json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == schema
        print("up to date" if current else "out of date: run python tools/config_schema.py")
        return 0 if current else 1
    SCHEMA_FILE.write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"written: {SCHEMA_FILE}")
    return 0


if __name__ == "__main__":
    run(main)
