"""Imports point downwards only, importing is light, and no module is called a dumping ground."""

import ast
import subprocess
import sys
from pathlib import Path

import muybridge
from muybridge.systems.registry import SYSTEMS

PACKAGE = Path(muybridge.__file__).parent
LAYER = {
    "errors": 0, "files": 0, "configuration": 0, "__init__": 0,
    "diffusion": 1, "nn": 2, "models": 3, "systems": 4,
    "data": 5, "curation": 5, "training": 5, "evaluation": 5,
    "cli": 6, "app": 6,
}  # fmt: skip


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("muybridge"):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("muybridge"))


def test_imports_point_downwards():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        if path == PACKAGE / "__init__.py":
            continue  # the front door: its one lazy import reaches systems
        for name in imports(path):
            target = name.split(".")[1] if "." in name else "__init__"
            if LAYER[target] > LAYER[room(path)]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not wrong


def test_no_system_imports_another():
    systems = {module.rpartition(".")[2] for module, _, _ in SYSTEMS.values()}
    assert len(systems) > 1
    for system in systems:
        for name in imports(PACKAGE / "systems" / f"{system}.py"):
            assert name not in {f"muybridge.systems.{other}" for other in systems - {system}}


def test_diffusion_needs_only_torch():
    for path in (PACKAGE / "diffusion").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in names:
                top = name.split(".")[0]
                assert top in sys.stdlib_module_names | {"torch", "muybridge"}, f"{path.name} imports {name}"


def test_no_dumping_grounds():
    assert not [p for p in PACKAGE.rglob("*") if p.stem in ("utils", "helpers", "common", "misc")]


def test_import_is_light():
    code = "import sys, muybridge; print([m for m in ('torch', 'numpy', 'diffusers', 'typer') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom muybridge.cli.main import app\n"
        "print([m for m in ('torch', 'numpy', 'diffusers', 'transformers', 'av') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
