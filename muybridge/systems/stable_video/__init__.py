"""Stable Video Diffusion (2311.15127), and its camera LoRAs."""

TRAINS = {"stable_video": "training:StableVideo", "camera_lora": "camera_lora:CameraLoRA"}
OPENS = {
    "ImageToVideoPipeline": "pipeline:ImageToVideoPipeline",
    "StableVideoWordsPipeline": "words:StableVideoWordsPipeline",
    "StableVideoBetweenPipeline": "between:StableVideoBetweenPipeline",
    # diffusers' folders
    "StableVideoDiffusionPipeline": "published:StableVideoDiffusionFolder",
}
KNOWS = {
    "ImageToVideoPipeline": ("muybridge image-to-video model", "animate --model"),
    "StableVideoWordsPipeline": ("muybridge text-to-video model", "generate --model"),
    "StableVideoBetweenPipeline": ("muybridge model of frames between others", "upsample-fps --model"),
    "StableVideoDiffusionPipeline": ("Stable Video Diffusion model", "animate --model"),
}
