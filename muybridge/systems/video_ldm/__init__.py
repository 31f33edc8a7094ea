"""Video LDM, "Align your Latents" (2304.08818)."""

TRAINS = {"video_ldm": "training:VideoLDM", "video_ldm_sr": "training:VideoLDMSR"}
