"""Imagen Video (2210.02303): a cascade of pixel diffusion models, from words to a large video."""

TRAINS = {"imagen_video": "training:ImagenVideo"}
OPENS = {"CascadePipeline": "pipeline:CascadePipeline", "CascadeStagePipeline": "stage:CascadeStagePipeline"}
KNOWS = {
    "CascadePipeline": ("a cascade", "generate --model"),
    "CascadeStagePipeline": ("a stage of a cascade", "upscale --model"),
}
