"""A recipe in Python, trained for a few steps on generated scenes, and sampled: far too short to learn anything."""

import sys
from pathlib import Path

from muybridge import load_pipeline
from muybridge.configuration import from_mapping
from muybridge.training.recipe import Recipe
from muybridge.training.trainer import Trainer

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
recipe = {
    "name": "tiny",
    "system": "vdm",
    "model": {
        "type": "unet3d", "sample_size": 16, "base_channels": 16, "channel_multipliers": [1, 2], "blocks_per_level": 1,
        "attention_resolutions": [8], "attention_head_dim": 8, "embedding_dim": 32, "embedding_layers": 2,
        "norm_groups": 4, "text_pooled_dim": 384, "text_token_dim": 384,
    },
    "text": {"encoder": "all-MiniLM-L6-v2", "max_length": 8},
    "data": {"source": "world", "height": 16, "width": 16, "num_frames": 4, "num_clips": 64},
    "training": {"steps": steps, "batch_size": 4, "warmup_steps": 2, "validation_clips": 4, "sample_every": 0},
    "sampling": {"num_frames": 4, "height": 16, "width": 16, "num_inference_steps": 4},
}  # fmt: skip
model = Trainer(from_mapping(Recipe, recipe, "recipe"), Path("runs/tiny")).run()
print(model, load_pipeline(str(model))("a red circle", seed=1).frames.shape)
