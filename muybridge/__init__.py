"""muybridge: every major design of a video diffusion model, built from the same few parts.

from muybridge import load_pipeline
from muybridge.data.video_io import write_video

pipeline = load_pipeline("world-vdm")
result = pipeline("a red circle moving left", seed=1)
write_video(result.frames[0], "circle.mp4", fps=8)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_pipeline"]

if TYPE_CHECKING:
    from muybridge.opening.sampling import load_pipeline


def __getattr__(name: str) -> Any:
    # nothing heavy is imported before it is used
    if name == "load_pipeline":
        from muybridge.opening.sampling import load_pipeline

        return load_pipeline
    raise AttributeError(f"module 'muybridge' has no attribute {name!r}")
