"""From an emoji's name to the nouns people write: concept, article, plural, synonyms, and how such a thing moves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

#: What people call things whose Unicode name is stiffer: name -> their word. Several names may share one.
CONCEPTS: dict[str, str] = {
    "automobile": "car", "oncoming automobile": "car", "honeybee": "bee", "lady beetle": "ladybug", "T-Rex": "dinosaur",
    "sauropod": "dinosaur", "glowing star": "star", "ringed planet": "planet", "small airplane": "airplane",
    "airplane departure": "airplane", "airplane arrival": "airplane", "deciduous tree": "tree",
    "spouting whale": "whale",
    "flying saucer": "UFO", "delivery truck": "truck", "articulated lorry": "truck", "soccer ball": "football",
    "baby chick": "chick", "front-facing baby chick": "chick", "two-hump camel": "camel", "oncoming bus": "bus",
    "oncoming taxi": "taxi", "oncoming police car": "police car", "wrapped gift": "present", "doughnut": "donut",
    "soft ice cream": "ice cream", "fire engine": "fire truck", "beer mug": "beer", "lady’s hat": "hat",
    "snowman without snow": "snowman", "motor scooter": "scooter", "pool 8 ball": "billiard ball", "game die": "dice",
    "mobile phone": "phone", "pile of poo": "poo", "sun with face": "sun", "full moon face": "moon",
    "full moon": "moon",
    "house with garden": "house", "office building": "building", "passenger ship": "ship", "open book": "book",
    "closed book": "book", "black nib": "pen nib", "racing car": "race car", "sport utility vehicle": "SUV",
    "snow-capped mountain": "mountain", "mount fuji": "mountain", "evergreen tree": "fir tree", "gem stone": "diamond",
    "person walking": "pedestrian", "jack-o-lantern": "pumpkin", "optical disk": "CD", "wine glass": "glass of wine",
    "hot beverage": "cup of coffee", "hamburger": "burger", "french fries": "fries", "poultry leg": "chicken leg",
}  # fmt: skip

#: Things that people write of, as they call them. Of a thousand concepts most are people in three variants, hands,
#: symbols and office supplies; a model that shall learn how things combine meets these ones five times as often.
COMMON = frozenset(
    " ".join((
        "bear camel cat cow deer dog elephant fox giraffe goat gorilla hamster hippopotamus horse kangaroo koala lion",
        "monkey mouse panda pig rabbit raccoon tiger unicorn wolf zebra bat bird chick chicken duck eagle owl parrot",
        "peacock rooster swan turkey frog dinosaur dragon lizard snake turtle fish crab dolphin jellyfish lobster",
        "octopus shark whale orca seal ant bee butterfly ladybug snail spider scorpion rose sunflower tulip cactus",
        "mushroom tree banana cherries grapes lemon peach pear pineapple strawberry tomato watermelon avocado",
        "carrot eggplant pizza burger egg bread fries donut cupcake cookie candy croissant pretzel beer teapot car bus",
        "taxi ambulance truck tractor train locomotive bicycle motorcycle scooter skateboard airplane helicopter",
        "rocket UFO sailboat ship speedboat house castle tent anchor sun moon star planet cloud snowman snowflake",
        "umbrella fire tornado droplet comet present pumpkin trophy basketball football baseball volleyball kite dice",
        "guitar drum trumpet saxophone crown diamond ring key book camera television phone laptop bell bomb hammer",
        "pencil scissors glasses sunglasses candle magnet chair bed backpack alien robot ghost skull poo baby",
        "astronaut superhero fairy mage elf boy girl firefighter",
    )).split()
) | {
    "polar bear", "red apple", "green apple", "palm tree", "maple leaf", "four leaf clover", "cherry blossom",
    "hot pepper", "ice cream", "birthday cake", "cup of coffee", "glass of wine", "hot dog", "police car", "race car",
    "ferris wheel", "high voltage", "teddy bear", "light bulb", "alarm clock", "top hat", "running shoe",
    "chicken leg", "red heart", "clown face", "Santa Claus", "police officer", "ballet dancer", "smiling face",
    "smiling face with sunglasses", "face with tears of joy", "thinking face", "sleeping face", "angry face",
    "loudly crying face", "thumbs up", "waving hand", "crystal ball", "billiard ball", "treasure chest", "money bag",
    "fir tree", "sun behind cloud", "spiral shell", "carousel horse", "musical note",
}  # fmt: skip

#: Other words for a concept; each is true wherever the concept is.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "car": ("automobile",), "dog": ("hound", "doggy"), "cat": ("kitty",), "rabbit": ("bunny",),
    "horse": ("pony",), "pig": ("piggy",), "airplane": ("plane", "aeroplane"), "rocket": ("spaceship", "rocket ship"),
    "bicycle": ("bike",), "motorcycle": ("motorbike",), "truck": ("lorry",), "ship": ("boat",), "taxi": ("cab",),
    "sailboat": ("sailing boat",), "star": ("little star",), "present": ("gift",), "football": ("soccer ball",),
    "television": ("TV",), "camera": ("photo camera",), "phone": ("mobile phone", "smartphone"),
    "UFO": ("flying saucer",),
    "ladybug": ("ladybird",), "donut": ("doughnut",), "burger": ("hamburger",), "fries": ("chips",),
    "alien": ("extraterrestrial",), "ghost": ("spook",), "robot": ("android",), "person": ("human",), "child": ("kid",),
    "baby": ("infant",), "teddy bear": ("toy bear",), "balloon": ("toy balloon",), "hippopotamus": ("hippo",),
    "rhinoceros": ("rhino",), "helicopter": ("chopper",), "orca": ("killer whale",),
    "diamond": ("gem",), "poo": ("turd",), "dinosaur": ("dino",),
    "deer": ("stag",), "wastebasket": ("bin",), "couch and lamp": ("sofa with a lamp",), "microphone": ("mic",),
    "laptop": ("notebook computer",), "tulip": ("tulip flower",), "rose": ("rose flower",), "police officer": ("cop",),
    "fire": ("flame",), "bouquet": ("bunch of flowers",), "collision": ("explosion",),
    "high voltage": ("lightning bolt",),
    "droplet": ("drop of water",), "eyes": ("pair of eyes",),
    "ball": ("toy ball",), "pistol": ("toy gun",), "crown": ("royal crown",), "hot pepper": ("chili pepper",),
    "eggplant": ("aubergine",), "trophy": ("cup",), "light bulb": ("bulb",), "bee": ("honeybee",),
}  # fmt: skip

#: Names that need no article and are not counted: substances, and things that are one of a kind.
MASS = frozenset(
    ["bread", "butter", "salt", "ice", "fire", "fog", "popcorn", "sushi", "spaghetti", "broccoli", "garlic", "bacon",
    "sake", "soap", "yarn", "thread", "oden", "dango", "wood", "falafel", "mate", "tennis", "bowling", "badminton",
    "lacrosse", "softball", "lipstick", "chocolate", "pasta", "camping", "fondue", "custard", "dna"]
) | {"cooked rice", "curry rice", "ping pong", "ice hockey", "field hockey", "shaved ice", "high voltage",
        "pouring liquid",
     "performing arts", "high-speed rail", "soft ice cream", "Santa Claus", "Mrs. Claus", "Mx Claus", "Saturn",
     "meat on bone",
     "french fries", "cheese", "american football", "rugby football", "poo", "bacon", "money with wings",
     "corn"}  # fmt: skip
#: Names that are plural already.
PLURAL = frozenset(
    [
        "cherries",
        "grapes",
        "beans",
        "peanuts",
        "pancakes",
        "olives",
        "houses",
        "books",
        "chains",
        "skis",
        "maracas",
        "jeans",
        "socks",
        "shorts",
        "gloves",
        "briefs",
        "glasses",
        "goggles",
        "sunglasses",
        "scissors",
        "eyes",
        "lungs",
        "bubbles",
        "chopsticks",
        "fireworks",
        "sparkles",
        "fries",
        "confetti",
        "people",
        "ruins",
        "dice",
    ]
)
#: Words that end like a plural and are not one.
SINGULAR_S = frozenset(["bus", "glass", "cactus", "octopus", "walrus", "compass", "lotus", "hibiscus", "dress",
        "trolleybus", "minibus", "rhinoceros", "hippopotamus", "canvas", "iris", "abacus", "Claus", "cross", "canoes",
        "lens"])  # fmt: skip
IRREGULAR = {
    "man": "men", "woman": "women", "person": "people", "child": "children", "mouse": "mice", "goose": "geese",
    "foot": "feet",
    "tooth": "teeth", "leaf": "leaves", "wolf": "wolves", "fish": "fish", "sheep": "sheep", "deer": "deer",
    "ox": "oxen",
    "moose": "moose", "bison": "bison", "knife": "knives", "shrimp": "shrimp", "squid": "squid", "elf": "elves",
    "scarf": "scarves", "merman": "mermen", "coral": "corals", "salmon": "salmon", "loaf": "loaves", "thief": "thieves",
    "mongoose": "mongooses", "dice": "dice", "aircraft": "aircraft", "blowfish": "blowfish", "jellyfish": "jellyfish",
}  # fmt: skip
#: Names that are no nouns, or pictures of whole scenes: they are no actors.
NOT_ACTORS = frozenset({
    "rolling on the floor laughing", "star-struck", "ZZZ", "dashing away", "dizzy", "foggy", "night with stars",
    "sunrise",
    "sunrise over mountains", "cityscape at dusk", "sunset", "bridge at night", "cityscape", "milky way", "cooking",
    "world map", "map of Japan", "camping", "desert", "national park", "beach with umbrella", "wedding", "construction",
    "building construction", "cyclone", "moon viewing ceremony", "flag in hole", "field hockey", "ice hockey", "locked",
    "unlocked", "hammer and pick", "landslide", "motorway", "railway track", "breast-feeding",
    "head shaking vertically",
    "head shaking horizontally", "exploding head", "hole", "desert island", "mountain", "bowling", "badminton",
    "tennis",
    "ping pong", "lacrosse", "cricket game", "station", "metro", "fog", "water wave", "rainbow", "stop sign", "mate",
    "joker", "mahjong red dragon", "performing arts", "hourglass done", "hourglass not done", "link", "softball",
})  # fmt: skip
#: emojibase's groups that hold actors: smileys, people, animals and nature, food, travel, activities, objects.
GROUPS = frozenset("0134567")

#: How things of a category move: emojibase "group/subgroup" -> a class of `vocabulary.VERBS`.
WAYS = {
    "3/34": "walks", "3/36": "hops", "3/37": "walks", "3/38": "swims", "3/35": "flies", "5/54": "drives",
    "5/55": "sails",
    "5/56": "flies", "1/25": "walks", "1/26": "walks", "1/23": "walks", "1/27": "walks",
}  # fmt: skip
#: ... where a name says otherwise.
WAYS_OF = {name: way for way, names in {
    "drives": ("tractor", "bus", "taxi", "car", "truck", "race car", "locomotive", "train"),
    "flies": ("bat", "bee", "butterfly", "ladybug", "fly", "mosquito", "UFO", "balloon", "kite", "dragon", "superhero",
    "fairy",
              "ghost", "comet", "cricket"),
    "swims": ("duck", "swan", "merperson", "mermaid", "merman"),
    "walks": ("penguin", "chicken", "rooster", "turkey", "dodo", "chick", "ant", "robot", "snowman", "pedestrian"),
    "": ("snail", "crab", "spiral shell", "coral", "lobster", "shrimp", "oyster", "feather", "wing", "pig nose",
    "paw prints",
         "horizontal traffic light", "vertical traffic light", "police car light", "stop sign", "wheel", "oil drum",
         "fuel pump",
         "bus stop", "seat", "anchor", "ring buoy", "hatching chick", "black bird", "snake", "satellite",
         "suspension railway",
         "mountain cableway", "aerial tramway", "monorail", "parachute"),
}.items() for name in names}  # fmt: skip


@dataclass(frozen=True)
class Noun:
    """How a thing is called.

    Attributes:
        concept: the plain noun, "dog"; held-out combinations are about concepts.
        words: nouns that are all true of it, the concept first: "dog", "hound", "dog face".
        countable: it takes an article and a number; else it is written bare ("fire", "scissors").
        plural: it is written in the plural ("scissors spin").
        way: how it moves by itself, a class of `vocabulary.VERBS`; "" is none.
        sideways: it faces left in these sets, and is mirrored when it moves to the right.
        coloured: it keeps its colours: its name says one, or it is a person.
    """

    concept: str
    words: tuple[str, ...]
    countable: bool
    plural: bool
    way: str
    sideways: bool
    coloured: bool


_HEAD_END = re.compile(r" (?:with|without|of|in|on|at|behind|showing|blowing|facing|wearing|and|to|from|tilted|"
                       r"rowing|riding|playing|getting|feeding|holding)\b")  # fmt: skip
#: People are not recoloured, and take the plural at the person: "men surfing".
_PERSON = re.compile(r"\b(man|men|woman|women|person|people|boy|girl|child|baby|prince|princess|Claus)\b")
_DOING = re.compile(r" [\w-]+ing\b")
#: What people do in their names that the words of a scene would contradict, and families, whose names are lists.
_AT_ODDS = re.compile(
    r"\b(running|walking|climbing|standing|kneeling|rolling|jumping|cartwheeling) *$|,|^family|^kiss|^couple"
)
_COLOURS = re.compile(
    r"\b(red|orange|yellow|green|blue|purple|pink|brown|black|white|grey|gray|golden|rainbow)\b", re.I
)


def bare_name(label: str) -> str:
    """A label as a noun phrase: without skin tone and direction, "person: blond hair" as "person with blond hair"."""
    name = re.sub(r":? *,? *(light|medium-light|medium|medium-dark|dark) skin tone,?", "", label)
    name = name.replace(": facing right", "").replace("’", "'").strip(" :,")
    person, _, look = name.partition(": ")
    if look in ("beard", "bald"):
        return f"{person} with a beard" if look == "beard" else f"bald {person}"
    return f"{person} with {look}" if look else name


def _head_of(phrase: str) -> tuple[str, str]:
    """A noun phrase cut behind its head: ("face", " with tears of joy"), ("man", " surfing")."""
    ends = [m.start() for m in (_HEAD_END.search(phrase), _PERSON.search(phrase) and _DOING.search(phrase)) if m]
    return (phrase[: min(ends)], phrase[min(ends) :]) if ends else (phrase, "")


def plural_of(phrase: str) -> str:
    """The plural of a noun phrase, at its head: "face with tears of joy" -> "faces with tears of joy"."""
    head, rest = _head_of(phrase)
    before, space, last = head.rpartition(" ")
    if last in IRREGULAR:
        plural = IRREGULAR[last]
    elif last.endswith("man") and len(last) > 4 and last not in ("snowman", "human"):
        plural = last[:-3] + "men"
    elif last == "snowman":
        plural = "snowmen"
    elif re.search(r"(s|x|z|ch|sh)$", last) or last in ("tomato", "potato", "hero", "mosquito", "superhero"):
        plural = last + "es"
    elif re.search(r"[^aeiou]y$", last):
        plural = last[:-1] + "ies"
    else:
        plural = last + "s"
    return f"{before}{space}{plural}{rest}"


def with_article(phrase: str) -> str:
    """ "apple" -> "an apple"; words that only look like they start with a vowel, or the reverse, included."""
    first = phrase.split(" ")[0].split("-")[0]
    sounds = first[:1].lower() in "aeiou" and not re.match(r"(?i)(uni|use|euro|one\b|ukul|ufo\b|u-)", first)
    sounds = sounds or first in ("hourglass", "heir", "SUV", "X", "x", "hour", "honest", "8", "NG", "SOS")
    return ("an " if sounds else "a ") + phrase


def _number(name: str) -> tuple[bool, bool]:
    """(countable, plural) of a noun phrase."""
    last = _head_of(name)[0].split(" ")[-1]
    if name in MASS or last in MASS:
        return False, False
    ends = last.endswith("s") and not last.endswith(("ss", "us", "is")) and last not in SINGULAR_S
    plural = last in PLURAL or ends or last in ("men", "women", "people")
    return not plural, plural


@cache
def noun_of(label: str, category: str = "") -> Noun | None:
    """The noun for an emoji; None where it is no actor.

    Args:
        label: emojibase's name.
        category: its "group/subgroup"; "" where a store does not say.
    """
    name = bare_name(label)
    group = category.split("/")[0]
    if name in NOT_ACTORS or (category and group not in GROUPS) or "o'clock" in name or re.search(r"-thirty$", name):
        return None
    if (_PERSON.search(name) and _AT_ODDS.search(name)) or "," in name:
        return None
    if label.startswith(("regional indicator", "keycap", "flag")):
        return None
    concept = CONCEPTS.get(label, name)
    if group == "3" and concept.endswith(" face") and concept not in ("wind face",):
        concept = concept.removesuffix(" face")
    words = dict.fromkeys((concept, *SYNONYMS.get(concept, ()), name))
    countable, plural = _number(concept)
    alike = tuple(w for w in words if w == concept or _number(w) == (countable, plural))
    way = WAYS_OF.get(concept, WAYS.get(category, ""))
    sideways = category in ("5/54", "5/55", "3/34") and not label.endswith("face") and not label.startswith("oncoming")
    kept = group == "1" or bool(_PERSON.search(name) or _COLOURS.search(f"{label} {concept}"))
    return Noun(concept, alike, countable, plural, way, sideways, kept)
