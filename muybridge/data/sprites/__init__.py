"""`sprites`: composed scenes of captioned cut-outs, with exact optical flow, depth, masks and edges."""
