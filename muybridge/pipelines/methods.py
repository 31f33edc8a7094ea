"""Names of how known frames are kept in a continuation; light, so that options are made from them."""

METHODS = ("reconstruction", "replacement")
#: Given frames that a network was trained with (`VideoPipeline.trained_with_given_frames`); and the choice between that
#: and reconstruction guidance by what the model is.
TRAINED, AUTO = "trained", "auto"
EVERY_METHOD = (AUTO, TRAINED, *METHODS)
#: Fresh noise at every step lets known and new frames agree; VDM samples its extensions this way. Networks that were
#: trained with given frames have no use for it.
CONTINUATION_SAMPLER = "ancestral"
#: What is said of each.
TOLD = {
    TRAINED: "given frames are told to the network, which was trained with them",
    "reconstruction": "given frames are kept by reconstruction guidance: the model was not trained with them",
    "replacement": "given frames are put back at every step: the model was not trained with them",
}


def method_of(method: str, trained: bool) -> str:
    """The method that "auto" is for a model."""
    return method if method != AUTO else (TRAINED if trained else "reconstruction")
