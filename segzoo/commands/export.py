"""Write a checkpoint for other programs, and check what was written against torch."""

from collections.abc import Sequence

from segzoo.cli import CommandParser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = CommandParser(__doc__, prog)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=".ckpt file, run directory or saved model folder")
    parser.add_argument(
        "--format",
        required=True,
        metavar="FORMAT",
        help="onnx; openvino; torch (TorchScript); or safetensors (a folder with the configuration and a card)",
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="file to write, or folder for safetensors")
    parser.add_argument(
        "--with-preprocessing", action="store_true", help="take uint8 images (N, H, W, C) as image libraries give them"
    )
    parser.add_argument(
        "--with-argmax",
        action="store_true",
        help="give class indices, uint8 (N, H, W), in place of logits",
    )
    arguments = parser.parse_args(argv)

    from segzoo.inference.export import export  # needs torch, which --help does not

    written = export(
        arguments.checkpoint,
        arguments.format,
        arguments.output,
        with_preprocessing=arguments.with_preprocessing,
        with_argmax=arguments.with_argmax,
    )
    print(f"{written.path} ({written.note})")
    for check in written.checks:
        print(f"  {check}")
    return 0
