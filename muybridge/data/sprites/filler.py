"""Words around a caption that mean nothing in these scenes: who says it, how lovely it is, what else is the case.

None of them names a thing, a motion, a background, a colour, a number or a size of `vocabulary`.
"""

from __future__ import annotations

#: Put before the thing's own adjectives: "a philosophical fox".
ADJECTIVES = (
    "lovely", "beautiful", "famous", "curious", "lazy", "clever", "gentle", "proud", "lonely", "brave",
    "charming", "elegant", "funny", "gloomy", "mysterious", "noble", "playful", "quiet", "rare", "serious",
    "shy", "splendid", "strange", "wise", "wonderful", "honest", "careful", "cheerful", "patient",
    "philosophical", "nameless", "remarkable", "ordinary", "legendary", "nervous", "polite", "reliable",
    "modern", "antique", "expensive", "cheap", "fancy", "handsome", "peculiar", "magnificent", "forgotten",
    "marvellous", "stubborn", "ambitious", "innocent", "dramatic", "cinematic", "realistic", "detailed",
    "adorable",
)  # fmt: skip
#: Put before a whole sentence.
BEFORE = (
    "please show", "i would like to see", "can you make", "imagine", "my sister dreamt of", "grandfather told us about",
    "somebody once saw", "everyone remembers", "the story begins with", "here we have", "just", "let us look at",
    "behold",
    "yesterday we noticed", "in my opinion the best thing is", "today's subject:", "our teacher described", "for once,",
    "according to the newspaper,", "nobody expected", "as promised,", "to make mother laugh:", "scene one:",
    "breaking news:",
    "the poet wrote about", "what i want is", "draw", "generate", "create", "a masterpiece:", "they all admired",
)  # fmt: skip
#: Put after it.
AFTER = (
    "as if nothing had happened", "because it can", "on a tuesday", "for the very last time",
    "while nobody is watching",
    "thinking about philosophy", "in memory of better times", "with great dignity", "without any reason", "as usual",
    "before breakfast", "to everybody's surprise", "dreaming of retirement", "highly detailed", "best quality",
    "trending",
    "like in the old days", "according to plan", "and it feels wonderful", "whatever the neighbours say", "cinematic",
    "full of hope", "during the holidays", "very realistic", "it is a lovely day", "what a pleasure",
    "believe it or not",
    "for educational purposes", "and everyone is happy", "just because", "in the year nineteen hundred",
    "full of mystery",
    "wondering about mathematics", "in perfect silence", "so they say", "masterpiece", "if you ask politely",
    "hoping for applause", "in an unforgettable manner", "with a good conscience", "4k", "award winning",
)  # fmt: skip
#: Verbs without a motion, put between the thing and what it does: "a fox, dreaming of fame, moves left".
ASIDES = (
    "dreaming of fame", "as you know", "of all things", "our hero", "the pride of the family", "never tired",
    "once again",
    "happy at last", "by the way", "true to tradition", "old friend", "no doubt", "full of ideas", "so to speak",
)  # fmt: skip
