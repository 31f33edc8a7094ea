"""The temporal plug-ins, by the name a recipe gives."""

from __future__ import annotations

from muybridge.models.plugins.animatediff import MotionModules
from muybridge.models.plugins.gen1 import Gen1Layers
from muybridge.models.plugins.lumiere import LumiereLayers
from muybridge.models.plugins.make_a_video import MakeAVideoLayers
from muybridge.models.plugins.tune_a_video import TuneAVideoLayers
from muybridge.models.plugins.video_ldm import VideoLDMLayers
from muybridge.nn.temporal import TemporalPlugin

PLUGINS: dict[str, type[TemporalPlugin]] = {
    "video_ldm": VideoLDMLayers,
    "motion_modules": MotionModules,
    "tune_a_video": TuneAVideoLayers,
    "gen1": Gen1Layers,
    "make_a_video": MakeAVideoLayers,
    "lumiere": LumiereLayers,
}
