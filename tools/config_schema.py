"""What `segzoo config-schema` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.config_schema import main

if __name__ == "__main__":
    run(main)
