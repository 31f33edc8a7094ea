"""Lumiere (2401.12945): all frames at full rate in one pass, by a picture network that is also halved in time."""

TRAINS = {"lumiere": "training:Lumiere", "lumiere_sr": "training:LumiereSR"}
OPENS = {"LumiereBasePipeline": "pipeline:LumiereBasePipeline", "LumierePipeline": "pipeline:LumierePipeline"}
KNOWS = {
    "LumiereBasePipeline": (
        "muybridge Lumiere model without super-resolution",
        "generate, inpaint, cinemagraph --model",
    ),
    "LumierePipeline": ("muybridge Lumiere model", "generate, inpaint, cinemagraph --model"),
}
