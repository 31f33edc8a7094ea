"""Text2Video-Zero (2303.13439): nothing of it trains; an image model samples."""
