"""Imports point downwards only, importing is light, and no module is called a dumping ground."""

import ast
import subprocess
import sys
from pathlib import Path

import muybridge

PACKAGE = Path(muybridge.__file__).parent
#: Imports point to the same layer or a lower one. Systems and parts share a layer, but none imports another.
LAYERS = (
    ("errors", "files", "locks", "texts", "configuration", "documents", "waiting", "progress",
     "__init__"),
    ("diffusion",), ("nn",), ("models",),
    ("library",),
    ("pipelines", "learning"), ("systems", "parts"), ("opening",), ("making",),
    ("data", "curation", "training", "evaluation", "jobs"), ("cli", "studio", "__main__"),
)  # fmt: skip
LAYER = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
FILES = [p for p in PACKAGE.rglob("*.py") if "zoo" not in p.parts]


def module_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path, everywhere=True):
    """Modules of ours that a file imports: anywhere in it, or only when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree)) if everywhere else list(at_import(tree.body))
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("muybridge"):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("muybridge"))


def at_import(body):
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        for name in ("body", "orelse", "handlers", "finalbody"):
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield from at_import(getattr(node, name, []))


def drawn():
    """module -> the modules of ours it needs to be imported."""
    known = {module_of(p) for p in FILES}
    return {module_of(p): {n for n in imports(p, False) if n in known} - {module_of(p)} for p in FILES}


def test_imports_point_downwards():
    wrong = []
    for path in FILES:
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue  # the front door: its lazy imports reach up
        for name in imports(path):
            target = name.split(".")[1] if "." in name else "__init__"
            if LAYER.get(target, 0) > LAYER[room]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not wrong


def test_every_room_has_its_layer():
    rooms = {
        p.name.removesuffix(".py") for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()
    }
    assert rooms == set(LAYER)


def test_no_circle_of_files():
    graph, done = drawn(), set()

    def visit(module, way):
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module in done:
            return
        for needed in sorted(graph[module]):
            visit(needed, [*way, module])
        done.add(module)

    for module in sorted(graph):
        visit(module, [])
    assert len(done) == len(FILES)


def test_no_system_imports_another():
    systems = sorted(p.name for p in (PACKAGE / "systems").iterdir() if (p / "__init__.py").is_file())
    assert len(systems) >= 7
    for system in systems:
        others = tuple(f"muybridge.systems.{other}" for other in systems if other != system)
        for path in (PACKAGE / "systems" / system).rglob("*.py"):
            assert not [n for n in imports(path) if n.startswith(others) and n.split(".")[2] != system], path


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


def test_no_file_and_no_function_is_too_long_to_read():
    long = {}
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > 300:
            long[str(path.relative_to(PACKAGE))] = len(text.splitlines())
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60:
                long[f"{path.relative_to(PACKAGE)}: {node.name}"] = node.end_lineno - node.lineno + 1
    assert long == {}
