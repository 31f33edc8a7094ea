"""Stable Video Diffusion (2311.15127), and its camera LoRAs."""

TRAINS = {"stable_video": "training:StableVideo", "camera_lora": "camera_lora:CameraLoRA"}
OPENS = {
    "ImageToVideoPipeline": "pipeline:ImageToVideoPipeline",
    # diffusers' folders
    "StableVideoDiffusionPipeline": "published:StableVideoDiffusionFolder",
}
KNOWS = {
    "ImageToVideoPipeline": ("muybridge image-to-video model", "animate --model"),
    "StableVideoDiffusionPipeline": ("Stable Video Diffusion model", "animate --model"),
}
