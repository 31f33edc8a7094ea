"""Programs that say what a composed scene shows: thing, motion, background, relation.

They are fitted on true scenes of `sprites` alone, and share no weights with any model that makes videos; nothing of
`muybridge.nn`, `muybridge.models` or `muybridge.evaluation` is in them.
"""
