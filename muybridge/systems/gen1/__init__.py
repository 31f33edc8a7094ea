"""Gen-1 (2302.03011)."""

TRAINS = {"gen1": "training:Gen1"}
OPENS = {"Gen1Pipeline": "pipeline:Gen1Pipeline"}
KNOWS = {"Gen1Pipeline": ("muybridge structure-to-video model (Gen-1)", "restyle --model")}
