"""Layer 1: the mathematics of diffusion on tensors. No networks, no files, no global random state."""
