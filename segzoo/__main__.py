"""`python -m segzoo`, for environments without the command on the path, and for launchers such as torchrun."""

from segzoo.commands import main

if __name__ == "__main__":
    main()
