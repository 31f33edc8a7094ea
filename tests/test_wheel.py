"""The built wheel, installed where nothing of this checkout is, has its models and makes a video."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def run(*command, cwd):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=cwd, env={"PATH": "/usr/bin:/bin"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    # from a copy: setuptools writes build/ and *.egg-info beside what it builds
    import shutil

    copy, folder = tmp_path_factory.mktemp("copy") / "muybridge", tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "muybridge", copy / "muybridge", ignore=left_out)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, copy / name)
    code = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    run(sys.executable, "-c", code, folder, cwd=copy)
    (made,) = folder.glob("*.whl")
    return made


def test_every_file_of_every_model_is_in_it(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    zoo = {p.relative_to(ROOT).as_posix() for p in (ROOT / "muybridge" / "zoo").rglob("*") if p.is_file()}
    zoo = {name for name in zoo if "__pycache__" not in name}
    assert len(zoo) > 50 and zoo <= inside
    assert not [name for name in inside if name.startswith(("tests/", "benchmarks/"))]


def test_it_generates_in_an_environment_of_its_own(wheel, tmp_path):
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env", cwd=tmp_path)
    (site,) = (tmp_path / "env" / "lib").glob("python3*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    # its dependencies are this environment's: they are not what is tested, and take 1.6 GB. Nothing of theirs is run at
    # the start, so the checkout that is installed there for editing stays unknown.
    places = [sysconfig.get_path("purelib"), *(p for p in sys.path if p.endswith("site-packages"))]
    (site / "dependencies.pth").write_text("\n".join(dict.fromkeys(places)) + "\n")
    python = tmp_path / "env" / "bin" / "python"
    program = (
        "import muybridge; print(muybridge.__file__)\n"
        "from muybridge.cli.main import app\n"
        "for command in (['generate', 'rocket, fluent style', '--steps', '2', '-o', 'rocket.mp4'],"
        " ['replay', 'rocket.mp4']):\n"
        "    assert not app(command, standalone_mode=False)"
    )
    said = run(python, "-c", program, cwd=tmp_path)
    assert said.startswith(str(site)) and "the same: every frame" in said
    assert (tmp_path / "rocket.mp4").stat().st_size > 1000
