"""What the package imports is what pyproject.toml declares."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
# Where a logger, a notebook, an extra or a user has brought them in.
OPTIONAL = {"wandb", "mlflow", "optuna", "pillow_heif", "pyarrow", "IPython"}
OPTIONAL |= {"onnx", "onnxscript", "onnxruntime", "openvino", "fastapi", "starlette", "uvicorn", "prometheus_client"}
OPTIONAL |= {"h11", "pydantic", "python_multipart"}


def imported() -> set[str]:
    found = set()
    for file in (ROOT / "resnet_tl").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"resnet_tl"}


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = (re.match(r"[\w-]+", line)[0].lower() for line in project["dependencies"])  # type: ignore[index]
    return {NAMES.get(name, name.replace("-", "_")) for name in names}


def test_what_is_imported_is_declared():
    assert imported() - OPTIONAL <= declared()


def test_what_is_declared_is_imported():
    assert declared() <= imported()


def test_lightning_has_a_bound_while_its_private_parts_are_used():
    assert re.search(r'"lightning>=2\.6\.4,<2\.7"', (ROOT / "pyproject.toml").read_text())
