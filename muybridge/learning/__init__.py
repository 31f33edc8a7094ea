"""Layer 5: what the trainer asks of a system, and what systems share when they train."""
