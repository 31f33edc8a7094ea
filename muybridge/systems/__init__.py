"""Layer 4: the published systems, one file each: what it builds, what trains, its loss, how it samples."""
