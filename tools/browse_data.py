"""What `segzoo browse-data` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.browse_data import main

if __name__ == "__main__":
    run(main)
