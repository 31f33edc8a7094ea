"""A video that goes on: a model that was never trained for it is guided towards the last frames."""

import sys

from muybridge import load_pipeline
from muybridge.data.video_io import write_video
from muybridge.pipelines.continuation import extend_video

steps = int(sys.argv[1]) if len(sys.argv) > 1 else None
prompt = "a green triangle moving right"

pipeline = load_pipeline("world-vdm")
first = pipeline(prompt, seed=7, num_inference_steps=steps).frames[0]
longer = extend_video(pipeline, first, prompt, 6, method="replacement", sampler="ancestral", num_inference_steps=steps)
print(write_video(longer, "longer.mp4", fps=8), longer.shape)
