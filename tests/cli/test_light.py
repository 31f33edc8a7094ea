"""What can be known before anything heavy is loaded is checked before: a refusal imports neither torch nor numpy nor
diffusers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "numpy", "diffusers", "transformers", "av", "PIL")
CODE = """
import sys
from muybridge.cli.main import app
try:
    code = app(sys.argv[1:], standalone_mode=False)
except BaseException as error:
    code = getattr(error, "exit_code", 1)
print(code, [m for m in {heavy} if m in sys.modules])
"""

REFUSED = {
    "steps": ("generate", "unicorn", "--steps", "0"),
    "sampler": ("generate", "unicorn", "--sampler", "heun"),
    "a setting that its sampler does not read": ("generate", "unicorn", "--sampler", "dpmpp_2m", "--eta", "0.5"),
    "model": ("generate", "unicorn", "--model", "emoji-vido"),
    "damaged weights": ("generate", "unicorn", "--model", "{dir}/cut"),
    "ending": ("generate", "unicorn", "-o", "{dir}/out.avi"),
    "upscale": ("generate", "unicorn", "--upscale", "0"),
    "lora": ("generate", "unicorn", "--lora", "{dir}/none.safetensors"),
    "precision": ("generate", "unicorn", "--precision", "int4"),
    "empty prompt": ("generate", " "),
    "picture": ("animate", "{dir}/none.png"),
    "motion": ("animate", "{dir}/none.png", "--motion", "300"),
    "video": ("control", "{dir}/none.mp4", "a cat"),
    "structure": ("control", "{dir}/none.mp4", "a cat", "--control", "edge"),
    "content": ("restyle", "{dir}/none.mp4", "--content", " "),
    "no tuned model": ("edit", "emoji-video", "a cat"),
    "caption": ("tune", "{dir}/none.mp4", "--caption", " "),
    "factor": ("interpolate", "{dir}/none.mp4", "--factor", "3"),
    "frames": ("extend", "{dir}/none.mp4", "--add-frames", "1000000000"),
    "not a number": ("animate", "{dir}/none.png", "--noise", "nan"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_loads_nothing_heavy(what, tmp_path):
    cut = tmp_path / "cut" / "network"
    cut.mkdir(parents=True)
    index = {"_class_name": "TextToVideoPipeline", "network": ["muybridge.models.unet3d", "UNet3DModel"]}
    (tmp_path / "cut" / "model_index.json").write_text(json.dumps(index))
    (cut / "diffusion_pytorch_model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0cut")
    arguments = [a.format(dir=tmp_path) for a in REFUSED[what]]
    if "-o" not in arguments:
        arguments += ["--folder", str(tmp_path / "run")] if arguments[0] == "tune" else ["-o", str(tmp_path / "o.mp4")]
    code = CODE.format(heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=Path.cwd())
    assert done.stdout.splitlines()[-1] == "2 []", (done.stdout, done.stderr)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut"]
