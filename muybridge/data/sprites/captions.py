"""The words for a plan, in many phrasings; `plainest` gives the one that a program can parse."""

from __future__ import annotations

import re
from random import Random

from muybridge.data.sprites import filler
from muybridge.data.sprites.names import plural_of, with_article
from muybridge.data.sprites.plan import Part, Plan, pick
from muybridge.data.sprites.vocabulary import (
    AFTER,
    AROUND,
    CLIPS,
    CONTINUED,
    COUNTS,
    KEYWORDS,
    LEAVING,
    PHRASES,
    PICTURES,
    PLACES,
    RELATED,
    SAID_OF,
    SCENERY,
    SIZES,
    STYLE_WORDS,
    VERBS,
    Verb,
)

DOUBLED = frozenset({"run", "spin", "swim", "hop", "get", "sit", "drop"})
FORMS = ("ing", "finite", "is", "that", "of", "scene first", "keywords", "bare", "the")


def conjugate(verb: str, form: str) -> str:
    """ "move" as "ing" ("moving"), "s" ("moves") or "base"."""
    if form == "base":
        return verb
    if form == "s":
        return verb[:-1] + "ies" if verb.endswith("y") and verb[-2] not in "aeiou" else (
            verb + ("es" if verb.endswith(("s", "x", "ch", "sh", "o")) else "s"))  # fmt: skip
    if verb in DOUBLED:
        return verb + verb[-1] + "ing"
    return (verb[:-1] if verb.endswith("e") and not verb.endswith("ee") else verb) + "ing"


class Writer:
    """Writes captions of one plan.

    Args:
        rng: which phrasings; None takes the plainest of everything.
        pictures: no motion is said.
        nothing: words that stand for nothing are put around it.
    """

    def __init__(self, plan: Plan, rng: Random | None, pictures: bool, nothing: bool = False):
        self.plan, self.rng, self.pictures, self.nothing = plan, rng, pictures, nothing

    def _choose(self, options: tuple[str, ...]) -> str:
        return options[0] if self.rng is None else pick(self.rng, options)

    def _chance(self, share: float) -> bool:
        return self.rng is not None and self.rng.random() < share

    def noun(self, part: Part, article: str = "a") -> str:
        """ "a small red fox", "three foxes", "scissors"; article is "a", "the" or "" (none)."""
        noun = part.cutout.noun
        word = noun.words[0] if self.rng is None or self._chance(0.5) else pick(self.rng, noun.words)
        said_size = self.plan.layout == "one" and (part.motion not in ("towards", "away"))
        size = self._choose(SIZES[part.size]) if said_size and (self.rng is None or self._chance(0.7)) else ""
        odd = pick(self.rng, filler.ADJECTIVES) if self.rng and self.nothing and self._chance(0.4) else ""
        phrase = " ".join(w for w in (odd, size, part.colour, plural_of(word) if part.count > 1 else word) if w)
        if part.count > 1:
            return f"{'the ' if article == 'the' else ''}{COUNTS[part.count]} {phrase}"
        if article == "the" or re.search(r"^(Santa|Mrs\.|Mx|Statue|Tokyo)", phrase):
            return f"the {phrase}" if not phrase.startswith(("Santa", "Mrs.", "Mx")) else phrase
        return with_article(phrase) if article and noun.countable else phrase

    def verb(self, part: Part) -> Verb | None:
        """What a part does; None where nothing is said of it."""
        motion, way = part.motion, part.cutout.noun.way
        if self.pictures or motion == "following":
            return None
        if motion == "still":
            said = not part.cutout.loop and self.plan.layout in ("one", "counted") and self._chance(0.3)
            return pick(self.rng, PHRASES["still"]) if said and self.rng else None
        if self.rng is None:
            return PHRASES[motion][0]
        if self.plan.leaves and self._chance(0.6):
            verb, rest = pick(self.rng, LEAVING)
            if way and self._chance(0.5):
                verb, rest = pick(self.rng, VERBS[way]), pick(self.rng, ("off to the {way}", "away to the {way}"))
            return verb, rest.format(way=motion)
        if way in SAID_OF.get(motion, ()) and self._chance(0.6):
            return pick(self.rng, VERBS[way]), pick(self.rng, CONTINUED[motion])
        return pick(self.rng, PHRASES[motion])

    def _clause(self, subject: str, verb: Verb | None, form: str, many: bool) -> str:
        if verb is None:
            return subject
        word, rest = verb
        if form == "finite" or form == "the":
            said = conjugate(word, "base" if many else "s")
        elif form == "is":
            said = f"{'are' if many else 'is'} {conjugate(word, 'ing')}"
        elif form == "that":
            said = f"that {conjugate(word, 'base' if many else 's')}"
        else:
            said = conjugate(word, "ing")
        aside = f", {pick(self.rng, filler.ASIDES)}," if self.rng and self.nothing and self._chance(0.25) else ""
        return " ".join(w for w in (subject + aside, said, rest) if w)

    def _many(self, part: Part) -> bool:
        return part.count > 1 or part.cutout.noun.plural

    def _body(self, form: str) -> str:
        """The things and what they do."""
        plan, article = self.plan, {"the": "the", "bare": ""}.get(form, "a")
        first = plan.parts[0]
        if plan.layout == "several":
            inner = form if form in ("finite", "is", "that", "the", "bare") else "ing"
            clauses = [self._clause(self.noun(p, article), self.verb(p), inner, self._many(p)) for p in plan.parts]
            return (", ".join(clauses[:-1]) + " and " if len(clauses) > 2 else f"{clauses[0]} and ") + clauses[-1]
        if plan.layout in ("following", "orbiting"):
            options = AFTER if plan.layout == "following" else AROUND
            word, rest = options[0] if self.rng is None else pick(self.rng, options)
            way = f"to the {plan.side}" if plan.layout == "following" else ""
            rest = " ".join(w for w in (rest, self.noun(plan.parts[1], article), way) if w)
            return self._clause(self.noun(first, article), (word, rest), form, self._many(first))
        subject = self.noun(first, article)
        if plan.layout == "related":
            said = self._choose(RELATED[plan.relation])
            if "{side}" in said:
                said = ("to the " if self._chance(0.5) else "") + said.format(side=plan.side)
            subject = f"{subject} {said} {self.noun(plan.parts[1], article)}"
        return self._clause(subject, self.verb(first), form, self._many(first))

    def _scenery(self, options: dict[str, tuple[str, ...]]) -> str:
        colours = [*self.plan.background_colours, "", ""]
        said = self._choose(options[self.plan.background])
        return re.sub(r"\ba (?=orange)", "an ", said.format(colour=colours[0], first=colours[0], second=colours[1]))

    def _place(self) -> str:
        part = self.plan.parts[0]
        said = self.plan.layout == "one" and part.place not in ("", "centre") and self._chance(0.6)
        return self._choose(PLACES[part.place]) if said else ""

    def keywords(self) -> str:
        """ "fox, moving left, snow", with some of its tags."""
        plan, words = self.plan, []
        for part in plan.parts:
            words.append(self.noun(part, ""))
            verb = self.verb(part) if plan.layout in ("one", "counted") else None
            if verb is not None:
                words.append(self._clause("", verb, "ing", False).strip())
            words += [t for t in _tags(part) if self._chance(0.3)][:2]
        scenery = self._scenery({k: (v,) for k, v in KEYWORDS.items()})
        return ", ".join(words + ([scenery] if plan.background != "white" or self._chance(0.3) else []))

    def caption(self) -> str:
        """One caption."""
        plan = self.plan
        if plan.layout == "plain":
            return plan.parts[0].cutout.label
        form = self._choose(FORMS)
        if form == "keywords" and plan.layout in ("one", "counted"):
            return self.keywords()
        text, place, scenery = self._body("ing" if form == "keywords" else form), self._place(), self._scenery(SCENERY)
        if form == "scene first" and scenery:
            text = f"{scenery}{', ' if self._chance(0.6) else ' '}{text}"
            scenery = ""
        text = " ".join(w for w in (text, place, scenery) if w)
        if form == "of":
            return f"{self._choose(PICTURES if self.pictures else CLIPS)} {text}"
        return text


#: Tags that would say something of the scene, or of how things look, are not written.
_SAYING = frozenset(" ".join(
    [*PHRASES, *SIZES, *PLACES, *KEYWORDS, *COUNTS.values(), *(w for v in VERBS.values() for w in v),
     *(f"{a} {b}" for v in PHRASES.values() for a, b in v),
     *(w for v in SCENERY.values() for w in v)]).split()) | frozenset(
    ["red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "grey", "gray", "black", "white",
    "one", "face", "medium", "moon", "sun", "star", "ocean", "water", "winter", "cold", "dark", "sunny", "cloud",
    "rain", "building"])  # fmt: skip


def _tags(part: Part) -> list[str]:
    return [t for t in part.cutout.tags if not set(re.findall(r"[a-z]+", t.lower())) & _SAYING and len(t) > 2]


def plainest(plan: Plan, pictures: bool = False) -> str:
    """The plainest phrasing: "a small red fox moving left in the snow"."""
    return Writer(plan, None, pictures).caption()


def caption(plan: Plan, rng: Random, pictures: bool, plain: float, nothing: float, style: float) -> str:
    """A caption in one of many phrasings.

    Args:
        pictures: no motion is said.
        plain, nothing, style: shares in the plainest phrasing, with words that mean nothing here, and with the style.
    """
    around = rng.random() < nothing
    simple = rng.random() < plain and not around
    writer = Writer(plan, None if simple else rng, pictures, around)
    text = writer.caption()
    if around and plan.layout != "plain":
        before, after = rng.random() < 0.5, rng.random() < 0.5
        text = f"{pick(rng, filler.BEFORE)} {text}" if before else text
        text = f"{text}{pick(rng, (' ', ', '))}{pick(rng, filler.AFTER)}" if after or not before else text
    elif around:
        text = f"{pick(rng, filler.BEFORE)} {writer.noun(plan.parts[0])}"
    word = plan.parts[0].cutout.style
    if word and rng.random() < style:
        said = STYLE_WORDS[0] if plan.layout == "plain" else pick(rng, STYLE_WORDS)
        text += ("" if said.startswith("in") else ",") + " " + said.format(style=word)
    return text
