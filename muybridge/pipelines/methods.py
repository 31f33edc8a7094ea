"""Names of how known frames are kept in a continuation; light, so that options are made from them."""

METHODS = ("reconstruction", "replacement")
#: Fresh noise at every step lets known and new frames agree; VDM samples its extensions this way.
CONTINUATION_SAMPLER = "ancestral"
