"""Names of what structure is; light, so that options are made from them."""

STRUCTURES = ("edges", "soft_edges", "depth", "foreground", "pose")
#: How optical flow is measured (models.vision.optical_flow).
FLOWS = ("dis", "farneback")
