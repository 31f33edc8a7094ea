"""Layer 6: the command line, a thin face over typed functions. Nothing heavy is imported before a command runs."""
