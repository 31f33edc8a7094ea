"""Layer 6: the published systems, a folder each. What a folder offers stands in its `__init__` (opening.offers)."""
