"""Layer 5: from noise to a video, whatever the system."""

OPENS = {
    "TextToVideoPipeline": "pixels:TextToVideoPipeline",
    "InflatedPipeline": "inflated:InflatedPipeline",
    "SuperResolutionPipeline": "super_resolution:SuperResolutionPipeline",
    # diffusers' folders of image models
    "StableDiffusionPipeline": "latents:LatentPipeline",
    "StableDiffusionXLPipeline": "latents:LatentPipeline",
    "LatentConsistencyModelPipeline": "latents:LatentPipeline",
    "StableDiffusionInstructPix2PixPipeline": "latents:LatentPipeline",
}
KNOWS = {
    "TextToVideoPipeline": ("muybridge text-to-video model", "generate --model"),
    "InflatedPipeline": (
        "muybridge video model on a picture model",
        "generate --model, edit (tuned on a video), upsample-fps --model (trained to put frames between others)",
    ),
    "SuperResolutionPipeline": ("muybridge super-resolution network of videos", "upscale --model"),
    "StableDiffusionPipeline": (
        "Stable Diffusion model",
        "generate, zero, control --model; `model: {image: FOLDER}` of a recipe; tune --model",
    ),
    "StableDiffusionXLPipeline": (
        "Stable Diffusion XL model",
        "generate, zero, control --model; `model: {image: FOLDER}` of a recipe with `text: {encoder: FOLDER}`; tune "
        "--model",
    ),
    "LatentConsistencyModelPipeline": ("latent consistency model", "generate --model"),
    "StableDiffusionInstructPix2PixPipeline": ("InstructPix2Pix model", "instruct --model"),
}
