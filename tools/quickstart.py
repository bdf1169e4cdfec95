"""What `segzoo quickstart` does, in a copy of the repository."""

from segzoo.cli import run
from segzoo.commands.training import quickstart as main

if __name__ == "__main__":
    run(main)
