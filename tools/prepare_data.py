"""What `segzoo prepare-data` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.data import prepare_data as main

if __name__ == "__main__":
    run(main)
