"""A prompt to a video, watched while it is sampled."""

import sys

from muybridge import load_pipeline
from muybridge.data.video_io import write_video

steps = int(sys.argv[1]) if len(sys.argv) > 1 else None  # None: as many as the model was measured with

pipeline = load_pipeline("world-vdm")
result = pipeline(
    "a red circle moving left", seed=1, num_inference_steps=steps,
    on_step=lambda state: print(f"step {state.step}: log-SNR {float(state.lam):.1f}"),
)  # fmt: skip
print(write_video(result.frames[0], "circle.mp4", fps=8))
