import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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
    promised |= {
        f"register_{kind}" for kind in ("backbone", "decoder", "dataset", "classification_dataset", "loss", "metric")
    }
    promised |= {"register_smp_encoders", "Section", "load_plugins", "ConfusionMatrix", "MeanIoU", "SegmentationTask"}
    promised |= {"SegmentationDataModule"}
    assert promised == set(segzoo.__all__)


def test_import_is_lazy() -> None:
    code = "import sys, segzoo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_attribute() -> None:
    assert "build_backbone" in dir(segzoo)
    assert not hasattr(segzoo, "nosuch")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def private_names(package: Path) -> set[str]:
    """What modules, classes and objects of a package call their own."""
    names: set[str] = set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return {name for name in names if is_private(name)}


def uses(tree: ast.AST, private: set[str]) -> Iterator[tuple[int, str]]:
    """Where code reaches for private names: imported, as attributes of what is not its own, or spelt in a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "segzoo":
            yield from ((node.lineno, alias.name) for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Attribute) and node.attr in private:
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("attr"):
            texts = [word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str)]
            yield from ((node.lineno, text) for text in texts if text.split(".")[-1] in private)


def test_tests_use_no_private_name(repository: Path) -> None:
    """They hold what the package does, so that its inside can move."""
    private = private_names(repository / "segzoo")
    assert len(private) > 200
    code = "from segzoo.a import _b\nthing._c\nself._c\npatch.setattr('segzoo.d._c')\nsetattr(thing, '_c', 1)\n_c = 2"
    assert [name for _, name in sorted(uses(ast.parse(code), {"_b", "_c"}))] == ["_b", "_c", "segzoo.d._c", "_c"]
    found = []
    for file in sorted((repository / "tests").rglob("*.py")):
        for line, name in uses(ast.parse(file.read_text()), private):
            found.append(f"{file.relative_to(repository)}:{line}: {name}")
    assert found == []
