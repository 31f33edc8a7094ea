"""Plants one wrong formula at a time and sees whether a test notices: `make mutants`.

Each mutant is text of the package and the wrong text in its place, found by what it says, wherever the file lies; a
text that is not found exactly once is an error, so that the table follows the code. Only the tests named beside it are
run, in a copy of the package, each mutant in a process of its own that is forked after torch and pytest are there.

    python -m tests.mutants.run [WORD...]     only mutants whose name contains a word
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
#: The share of wrong formulas that must be noticed.
BAR = 0.95


class Mutant(NamedTuple):
    """A wrong formula.

    Attributes:
        name: what is wrong.
        right, wrong: text of one file, and what stands in its place.
        tests: files under tests/ by the end of their path, "test_samplers", or one test of a file,
            "test_samplers::test_f4".
    """

    name: str
    right: str
    wrong: str
    tests: str


def copy_of_the_package(folder: Path) -> Path:
    """The package without its bundled weights, which are linked, its tests, and what they read."""
    shutil.copytree(ROOT / "muybridge", folder / "muybridge", ignore=shutil.ignore_patterns("zoo", "__pycache__"))
    (folder / "muybridge" / "zoo").symlink_to(ROOT / "muybridge" / "zoo")
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder / name)
    for name in ("recipes", "benchmarks", "docs"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def file_with(package: Path, text: str) -> Path:
    """The one file that holds this text once.

    Raises:
        LookupError: none does, or more than one.
    """
    found = [(p, p.read_text(encoding="utf-8").count(text)) for p in sorted(package.rglob("*.py"))]
    holding = [(p, n) for p, n in found if n]
    if len(holding) != 1 or holding[0][1] != 1:
        places = ", ".join(f"{p.relative_to(package)} ({n} times)" for p, n in holding) or "nowhere"
        raise LookupError(f"stands {places}: {text!r}")
    return holding[0][0]


def arguments_of(tests: str) -> list[str]:
    """What pytest is told.

    Raises:
        LookupError: no such file of tests, or more than one.
    """
    arguments = []
    for wanted in tests.split():
        stem, _, one = wanted.partition("::")
        paths = sorted((ROOT / "tests").rglob("test_*.py"))
        found = [p for p in paths if p.as_posix().endswith(f"/{stem}.py")]
        if len(found) != 1:
            raise LookupError(f"{len(found)} files of tests are called {stem}.py")
        arguments.append(f"{found[0].relative_to(ROOT)}{'::' + one if one else ''}")
    return arguments


def run_tests(folder: Path, arguments: list[str], log: Path) -> int:
    """pytest's exit code in a forked child that imports the package from `folder`."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 70
    try:
        os.chdir(folder)
        sys.path[:] = [str(folder), *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
        for name in [n for n in sys.modules if n.partition(".")[0] in ("tests", "muybridge")]:
            del sys.modules[name]
        import pytest

        import muybridge

        assert Path(muybridge.__file__).is_relative_to(folder), muybridge.__file__
        quick = [] if all("::" in a for a in arguments) else ["-m", "not slow"]  # one that is named runs in any case
        with log.open("w") as out, redirect_stdout(out), redirect_stderr(out):
            code = int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--tb=line", *quick, *arguments]))
    finally:
        os._exit(code)


def main(words: list[str]) -> int:
    import diffusers  # noqa: F401  what every child would import anew
    import pytest  # noqa: F401
    import transformers  # noqa: F401

    from tests.mutants.table import MUTANTS

    sys.dont_write_bytecode = True
    os.environ.update({"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": ""})
    chosen = [m for m in MUTANTS if not words or any(w in m.name for w in words)]
    survivors = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_of_the_package(Path(temporary))
        arguments = [arguments_of(m.tests) for m in chosen]
        files = [file_with(folder / "muybridge", m.right) for m in chosen]
        everything = sorted({a for one in arguments for a in one})
        if run_tests(folder, everything, folder / "log"):
            print((folder / "log").read_text()[-3000:], "\nthe tests fail without any mutant")
            return 2
        for mutant, file, told in zip(chosen, files, arguments, strict=True):
            kept, start = file.read_text(encoding="utf-8"), time.monotonic()
            file.write_text(kept.replace(mutant.right, mutant.wrong), encoding="utf-8")
            code = run_tests(folder, told, folder / "log")
            file.write_text(kept, encoding="utf-8")
            if code not in (0, 1, 2):  # 2: a module could not even be imported
                print((folder / "log").read_text()[-3000:], f"\npytest ended with {code}")
                return 2
            survivors += [] if code else [mutant.name]
            print(f"{'caught  ' if code else 'SURVIVED'} {mutant.name} ({time.monotonic() - start:.0f} s)", flush=True)
    caught = len(chosen) - len(survivors)
    print(f"{caught} of {len(chosen)} wrong formulas are noticed ({caught / len(chosen):.1%}); the bar is {BAR:.0%}")
    for name in survivors:
        print(f"  survived: {name}")
    return 0 if caught >= BAR * len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
