"""Imagen Video (2210.02303): a cascade of pixel diffusion models, from words to a large video."""

TRAINS = {"imagen_video": "training:ImagenVideo"}
OPENS = {"CascadeStagePipeline": "stage:CascadeStagePipeline"}
KNOWS = {"CascadeStagePipeline": ("a stage of a cascade", "upscale --model")}
