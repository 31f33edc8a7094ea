"""Layer 2: layers. They know tensors and nothing of systems, files or sampling."""
