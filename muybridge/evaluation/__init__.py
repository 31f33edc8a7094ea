"""Layer 5: measuring videos. The judge of generated scenes shares no code with the generator."""
