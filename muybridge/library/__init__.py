"""Layer 4: models on disk; nothing is sampled here."""
