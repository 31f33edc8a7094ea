"""`world`: a deterministic generator of captioned scenes with exact optical flow, depth, masks and edges."""

from muybridge.data.world.scene import Scene, Thing
from muybridge.data.world.source import WorldConfig, WorldSource, held_out_triples

__all__ = ["Scene", "Thing", "WorldConfig", "WorldSource", "held_out_triples"]
