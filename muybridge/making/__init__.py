"""Layer 8: a video with the record that makes it again."""
