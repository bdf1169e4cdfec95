"""What `segzoo predict` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.predict import main

if __name__ == "__main__":
    run(main)
