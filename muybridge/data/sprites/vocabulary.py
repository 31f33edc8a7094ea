"""The words of `sprites`: motions, backgrounds, relations, colours, sizes, places, and their phrasings.

Of every list of phrasings the first is the plainest. Nothing here needs numpy.
"""

from __future__ import annotations

#: Motions of one thing. "following" needs a second thing that goes before it.
MOTIONS = (
    "still", "left", "right", "up", "down", "towards", "away", "spinning", "swinging", "bouncing", "orbiting",
    "jumping",
    "following",
)  # fmt: skip
#: Motions in which several things move as one.
SHARED_MOTIONS = ("left", "right", "up", "down", "towards", "away", "bouncing", "jumping")
#: "white" is what a caption without a background shows.
BACKGROUNDS = ("white", "plain", "gradient", "sky", "night", "grass", "sea", "snow", "city")
#: first RELATION second; "left of" and "right of" are said of things that are beside each other.
RELATIONS = ("above", "below", "beside", "on", "behind", "in front of", "riding")
SIZES: dict[str, tuple[str, ...]] = {
    "small": ("small", "little", "tiny"), "medium": ("",), "large": ("large", "big", "huge"),
}  # fmt: skip
PLACES: dict[str, tuple[str, ...]] = {
    "centre": ("in the middle", "in the centre"), "left": ("on the left", "at the left side"),
    "right": ("on the right", "at the right side"), "top": ("at the top",), "bottom": ("at the bottom",),
    "top left": ("in the top left corner", "at the upper left"), "top right": ("in the top right corner",
    "at the upper right"),
    "bottom left": ("in the bottom left corner", "at the lower left"),
    "bottom right": ("in the bottom right corner", "at the lower right"),
}  # fmt: skip
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40), "orange": (245, 140, 25), "yellow": (245, 225, 50), "green": (45, 175, 65),
    "cyan": (50, 215, 225),
    "blue": (45, 85, 230), "purple": (150, 55, 200), "pink": (250, 150, 190), "brown": (130, 80, 40),
    "grey": (140, 140, 140),
    "black": (30, 30, 32),
}  # fmt: skip
COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine"}

#: What a thing does: (verb, complement) each; a verb's other forms come from `captions.conjugate`.
Verb = tuple[str, str]
PHRASES: dict[str, tuple[Verb, ...]] = {
    "still": (("stand", "still"), ("stay", "in place"), ("sit", "there motionless")),
    "left": (("move", "left"), ("move", "to the left"), ("go", "left"), ("go", "to the left"), ("travel", "leftwards"),
             ("slide", "to the left"), ("glide", "left"), ("head", "to the left"), ("cross",
             "the picture from right to left")),
    "right": (("move", "right"), ("move", "to the right"), ("go", "right"), ("go", "to the right"), ("travel",
    "rightwards"),
              ("slide", "to the right"), ("glide", "right"), ("head", "to the right"),
              ("cross", "the picture from left to right")),
    "up": (("move", "up"), ("move", "upwards"), ("go", "up"), ("rise", ""), ("rise", "up"), ("float", "upwards"),
           ("ascend", ""), ("climb", "up")),
    "down": (("move", "down"), ("move", "downwards"), ("go", "down"), ("sink", ""), ("fall", "down"), ("fall", ""),
             ("drop", "down"), ("descend", "")),
    "towards": (("move", "towards us"), ("come", "closer"), ("come", "towards the camera"), ("approach", ""),
                ("get", "bigger"), ("grow", "larger")),
    "away": (("move", "away"), ("move", "away from us"), ("go", "off into the distance"), ("get", "smaller"),
             ("shrink", "into the distance"), ("recede", "")),
    "spinning": (("spin", ""), ("spin", "around"), ("rotate", ""), ("turn", "round and round"), ("whirl", "around"),
                 ("twirl", "")),
    "swinging": (("swing", ""), ("swing", "from side to side"), ("sway", "to and fro"), ("rock", "back and forth"),
                 ("swing", "like a pendulum")),
    "bouncing": (("bounce", ""), ("bounce", "up and down"), ("bounce", "like a ball"), ("keep", "bouncing")),
    "orbiting": (("circle", ""), ("move", "in a circle"), ("go", "round in circles"), ("loop", "around"),
                 ("move", "along a circle")),
    "jumping": (("jump", ""), ("jump", "up"), ("hop", "into the air"), ("leap", ""), ("leap", "up"), ("make",
    "a jump")),
}  # fmt: skip
#: A thing that leaves the picture.
LEAVING: tuple[Verb, ...] = (("move", "off to the {way}"), ("go", "away to the {way}"), ("disappear", "to the {way}"),
                             ("leave", "the picture to the {way}"))  # fmt: skip
#: The verb of each class of things (`names.Noun.way`) that implies each motion; without a complement it is true as
#: well.
VERBS: dict[str, tuple[str, ...]] = {
    "walks": ("walk", "run"), "hops": ("hop",), "flies": ("fly",), "drives": ("drive", "roll"), "sails": ("sail",),
    "swims": ("swim",),
}  # fmt: skip
#: How such a verb is continued.
CONTINUED: dict[str, tuple[str, ...]] = {
    "left": ("to the left", "left", "", "leftwards"), "right": ("to the right", "right", "", "rightwards"),
    "up": ("up", "upwards"), "down": ("down", "downwards"), "towards": ("towards us", "closer", "towards the camera"),
    "away": ("away from us", "into the distance"),
}  # fmt: skip
#: Classes whose verbs can be said of a motion.
SAID_OF: dict[str, tuple[str, ...]] = {
    "left": tuple(VERBS), "right": tuple(VERBS), "up": ("flies", "swims"), "down": ("flies", "swims"),
    "towards": ("walks", "flies", "drives", "sails", "swims"), "away": ("walks", "flies", "drives", "sails", "swims"),
}  # fmt: skip
#: A thing that circles around another, and one that follows another.
AROUND: tuple[Verb, ...] = (("orbit", ""), ("circle", ""), ("go", "around"), ("move", "around"), ("revolve", "around"))
AFTER: tuple[Verb, ...] = (("follow", ""), ("go", "after"), ("chase", ""), ("run", "after"), ("move", "behind"))

#: {colour}, {first} and {second} are filled in.
SCENERY: dict[str, tuple[str, ...]] = {
    "white": ("", "on a white background", "on white"),
    "plain": ("on a {colour} background", "in front of a {colour} background", "against a plain {colour} backdrop",
              "on {colour}", "before a {colour} wall"),
    "gradient": ("on a {first} and {second} gradient", "on a gradient from {first} to {second}",
                 "in front of a {first} to {second} gradient"),
    "sky": ("in the sky", "under a blue sky", "in the blue sky", "against the sky", "among the clouds"),
    "night": ("at night", "in the night", "under the stars", "on a starry night", "in the night sky", "in the dark"),
    "grass": ("on the grass", "in a meadow", "on a green meadow", "on a lawn", "in a grassy field"),
    "sea": ("at sea", "on the sea", "on the ocean", "by the sea", "on the water"),
    "snow": ("in the snow", "on the snow", "in a snowy landscape", "on a snowy field", "in deep snow"),
    "city": ("in the city", "in a city", "in town", "in front of skyscrapers", "in a city street"),
}  # fmt: skip
#: The background as a keyword.
KEYWORDS = {"white": "white background", "plain": "{colour} background", "gradient": "{first} and {second} gradient",
            "sky": "sky", "night": "night", "grass": "grass", "sea": "sea", "snow": "snow", "city": "city"}  # fmt: skip
RELATED: dict[str, tuple[str, ...]] = {
    "above": ("above", "over"), "below": ("below", "under", "underneath"),
    "beside": ("beside", "next to", "by the side of", "{side} of"), "on": ("on", "on top of", "standing on",
    "sitting on"),
    "behind": ("behind", "partly hidden behind"), "in front of": ("in front of", "before"),
    "riding": ("riding", "riding on", "on the back of"),
}  # fmt: skip
STYLE_WORDS = ("{style} style", "{style} style", "in the {style} style", "in {style} style")
#: What a clip and a picture are called.
CLIPS = ("a video of", "a clip of", "an animation of", "a short film of", "footage of", "a gif of")
PICTURES = ("a picture of", "an image of", "a drawing of", "an illustration of", "an icon of")
