"""Video Diffusion Models (2204.03458)."""

TRAINS = {"vdm": "training:VDM"}
