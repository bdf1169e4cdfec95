"""Segment an image or a folder of images with a checkpoint; nothing else is needed."""

from argparse import ArgumentParser
from collections.abc import Sequence

from segzoo.cli import run


def main(argv: Sequence[str] | None = None) -> int:
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=".ckpt file or run directory")
    parser.add_argument("input", metavar="INPUT", help="image file or folder (searched below)")
    parser.add_argument("--output", metavar="DIR", help="folder for the masks (default: predictions/<run>)")
    parser.add_argument("--save", default="mask", metavar="KIND,...", help="mask, color, overlay (default: mask)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--skip-existing", action="store_true", help="leave out images that are done")
    existing.add_argument("--overwrite", action="store_true", help="replace outputs that are there")
    arguments = parser.parse_args(argv)

    from segzoo.inference.predict import predict  # needs torch, which --help does not

    report = predict(
        arguments.checkpoint,
        arguments.input,
        output=arguments.output,
        save=arguments.save.split(","),
        skip_existing=arguments.skip_existing,
        overwrite=arguments.overwrite,
    )
    counts = f"{len(report.written)} written, {len(report.skipped)} skipped, {len(report.failed)} failed"
    print(f"{counts}; {report.output}")
    for image, reason in report.failed.items():
        print(f"failed: {image}: {reason}")
    return 1 if report.failed else 0


if __name__ == "__main__":
    run(main)
