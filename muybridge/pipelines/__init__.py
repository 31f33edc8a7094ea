"""Layer 5: from noise to a video, whatever the system."""

OPENS = {
    "TextToVideoPipeline": "pixels:TextToVideoPipeline",
    "InflatedPipeline": "inflated:InflatedPipeline",
    # diffusers' folders of image models
    "StableDiffusionPipeline": "latents:LatentPipeline",
    "StableDiffusionInstructPix2PixPipeline": "latents:LatentPipeline",
}
