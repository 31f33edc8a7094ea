"""Autoencoders, latent spaces, and what they are trained with."""
