"""Layer 5: one trainer for all systems."""
