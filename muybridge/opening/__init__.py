"""Layer 7: from names to classes."""
