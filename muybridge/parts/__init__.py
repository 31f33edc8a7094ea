"""Layer 6: what systems stand on, trained alone."""

TRAINS = {
    "image_ldm": "image_ldm:ImageLDM",
    "autoencoder": "autoencoder:Autoencoder",
    "control_net": "control_net:ControlNetTraining",
    "image_text": "image_text:ImageText",
    "content_prior": "content_prior:ContentPriorTraining",
    "causal_prior": "content_prior:CausalPriorTraining",
    "image_projection": "image_projection:ImageProjectionTraining",
    "depth": "depth:DepthTraining",
    "interpolator": "interpolator:InterpolatorTraining",
    "upscaler": "upscaler:UpscalerTraining",
}
KNOWS = {
    "CausalAutoencoder": ("muybridge autoencoder of videos", "`model: {autoencoder: FOLDER}` of a recipe of sora"),
    "AutoencoderKLCogVideoX": ("CogVideoX video autoencoder", "`model: {autoencoder: FOLDER}` of a recipe of sora"),
    "ControlNetModel": ("ControlNet", "control --control-net, with an image model of the same widths"),
    "DualEncoder": ("muybridge image-text scorer", "curate --scorer"),
    "CLIP": ("CLIP model", "curate --scorer"),
    "ContentPrior": (
        "muybridge prior from words to a picture's meaning",
        "`system: gen1`, `model: {prior: FOLDER}` of a recipe",
    ),
    "CausalPrior": (
        "muybridge prior from words, one by one, to a picture's meaning",
        "`system: make_a_video`, `model: {prior: FOLDER}` of a recipe",
    ),
    "ImageProjection": (
        "muybridge projection of a picture's meaning into a picture model's words",
        "`system: make_a_video`, `model: {projection: FOLDER}` of a recipe of the stage image",
    ),
    "DepthNet": ("muybridge depth estimator", "restyle and control, for structure `depth`"),
    "FrameInterpolation": ("muybridge frame interpolation network", "control --interpolator"),
    "VideoUpscaler": (
        "muybridge super-resolver of videos",
        "--upscale 4 --upscaler, of every command that makes a video",
    ),
}
