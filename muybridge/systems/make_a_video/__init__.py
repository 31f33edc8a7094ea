"""Make-A-Video (2209.14792): time for a picture model of unCLIP's kind, without words beside videos."""

TRAINS = {"make_a_video": "training:MakeAVideo", "make_a_video_sr": "training:MakeAVideoSR"}
OPENS = {
    "MakeAVideoDecoderPipeline": "pipeline:MakeAVideoDecoderPipeline",
    "MakeAVideoBetweenPipeline": "between:MakeAVideoBetweenPipeline",
    "MakeAVideoPipeline": "whole:MakeAVideoPipeline",
}
KNOWS = {
    "MakeAVideoDecoderPipeline": ("decoder of Make-A-Video", "generate --model"),
    "MakeAVideoBetweenPipeline": (
        "frame interpolation network of Make-A-Video", "upsample-fps --model, animate --model, `models make-a-video`",
    ),
    "MakeAVideoPipeline": ("Make-A-Video model", "generate --model"),
    # diffusers' folders
    "UnCLIPPipeline": ("unCLIP model", "`system: make_a_video`, `model: {image: FOLDER, scorer: CLIP}` of a recipe"),
    "StableUnCLIPPipeline": (
        "Stable unCLIP model", "`system: make_a_video`, `model: {image: FOLDER, scorer: CLIP}` of a recipe",
    ),
}  # fmt: skip
