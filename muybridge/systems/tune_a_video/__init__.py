"""Tune-A-Video (2212.11565)."""

TRAINS = {"tune_a_video": "training:TuneAVideo"}
