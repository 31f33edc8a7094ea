"""Layer 6: what systems stand on, trained alone."""

TRAINS = {
    "image_ldm": "image_ldm:ImageLDM",
    "autoencoder": "autoencoder:Autoencoder",
    "control_net": "control_net:ControlNetTraining",
    "image_text": "image_text:ImageText",
    "content_prior": "content_prior:ContentPriorTraining",
    "depth": "depth:DepthTraining",
    "interpolator": "interpolator:InterpolatorTraining",
}
