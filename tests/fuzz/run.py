"""`make fuzz`: trials of every kind until the time is up; what is found is written to corpus/ and said.

python -m tests.fuzz.run [seconds] [kind ...]
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from hypothesis.errors import NonInteractiveExampleWarning

from muybridge.models import build_network
from muybridge.pipelines.pixels import TextToVideoPipeline
from tests.conftest import TINY_MODEL, randomise
from tests.devices.conftest import make_tiny_models
from tests.fuzz.case import findings, run
from tests.fuzz.strategies import KINDS
from tests.tiny_models import SAMPLING

CORPUS = Path(__file__).parent / "corpus"


def tiny_models(folder: Path) -> dict[str, str]:
    """The models that cases name in braces."""
    torch.manual_seed(0)
    make_tiny_models(folder)
    network = randomise(build_network(TINY_MODEL), 0.02)
    sampling = {**SAMPLING, "num_frames": 4, "num_inference_steps": 2}
    TextToVideoPipeline(network, text_encoder="all-MiniLM-L6-v2", text_max_length=8, sampling=sampling).save_pretrained(
        folder / "model"
    )
    return {name: str(folder / name) for name in ("model", "picture", "vae", "scorer", "alive")}


def main(seconds: float, kinds: list[str]) -> int:
    warnings.filterwarnings("ignore", category=NonInteractiveExampleWarning)
    tried: dict[str, list[int]] = {kind: [0, 0, 0] for kind in kinds}
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        models = tiny_models(Path(name))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for kind in kinds:
                case = KINDS[kind].example()
                outcome = run(case, models)
                tried[kind][0 if outcome.code == 0 else 1] += 1
                wrong = findings(case, outcome)
                last = (outcome.output.strip().splitlines() or [""])[-1][:200]
                if wrong and found.setdefault(f"{kind}: {wrong} {last}", "new") == "new":
                    found[f"{kind}: {wrong} {last}"] = "told"
                    tried[kind][2] += 1
                    text = case.saved()
                    file = CORPUS / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:10]}.json"
                    file.write_text(text, encoding="utf-8")
                    print(f"{file.name}: {wrong}\n  {' '.join(case.arguments)[:300]}\n  {last}", flush=True)
    for kind, (well, refused, wrong) in tried.items():
        print(f"{kind}: {well} done, {refused} refused, {wrong} findings")
    return 1 if found else 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    limit = float(arguments.pop(0)) if arguments else 600.0
    sys.exit(main(limit, arguments or list(KINDS)))
