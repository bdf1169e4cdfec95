"""What `segzoo convert-weights` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.convert_weights import main

if __name__ == "__main__":
    run(main)
