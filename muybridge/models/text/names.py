"""Names of ways to write prompts out; light, so that options are made from them."""

#: By rules, without a model.
RULES = "rules"
