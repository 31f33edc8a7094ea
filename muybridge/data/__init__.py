"""Layer 5: sources of captioned clips, and reading and writing video."""
