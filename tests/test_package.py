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


def test_the_promised_names_are_there_and_no_others() -> None:
    promised = {"train", "evaluate", "predict", "export", "Predictor", "load_config", "is_first_process", "__version__"}
    promised |= {"load_segmenter", "save_model", "push_to_hub", "build_backbone", "build_classifier", "list_backbones"}
    promised |= {"evaluate_classifier", "classify", "load_classifier", "ClassPredictor"}
    promised |= {f"register_{kind}" for kind in ("backbone", "decoder", "dataset", "classification_dataset", "loss")}
    promised |= {"register_smp_encoders"}
    assert promised == set(segzoo.__all__)


def test_import_is_lazy() -> None:
    code = "import sys, segzoo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_attribute() -> None:
    assert "build_backbone" in dir(segzoo)
    assert not hasattr(segzoo, "nosuch")
