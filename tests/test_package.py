import subprocess
import sys

import segzoo

BLOCKED = """
import socket

def refuse(*arguments, **keywords):
    raise RuntimeError("a connection was attempted")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import segzoo
for name in segzoo.__all__:
    getattr(segzoo, name)
"""


def test_every_public_name_loads_without_the_network() -> None:
    result = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


def test_the_promised_names_are_there() -> None:
    promised = {"train", "evaluate", "predict", "load_segmenter", "save_model", "push_to_hub", "Predictor"}
    promised |= {"build_backbone", "list_backbones", "build_classifier"}
    promised |= {f"register_{kind}" for kind in ("backbone", "decoder", "dataset", "loss")}
    assert promised <= set(segzoo.__all__)


def test_import_is_lazy() -> None:
    code = "import sys, segzoo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_attribute() -> None:
    assert "build_backbone" in dir(segzoo)
    assert not hasattr(segzoo, "nosuch")
