"""Text encoders, image-text scorers, and the prior from words to a picture's embedding."""
