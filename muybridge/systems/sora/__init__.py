"""Sora's technical report (2024), by what open systems of its kind settled on."""

TRAINS = {"sora": "training:Sora"}
OPENS = {"SoraPipeline": "pipeline:SoraPipeline", "CogVideoXPipeline": "published:CogVideoXFolder"}
KNOWS = {
    "SoraPipeline": (
        "muybridge transformer over spacetime patches",
        "generate, animate, extend, loop, connect, inpaint, outpaint, restyle --strength: all with --model",
    ),
    "CogVideoXPipeline": (
        "CogVideoX model",
        "generate, animate, extend, loop, connect, inpaint, outpaint, restyle --strength: all with --model",
    ),
}
