"""The words of one label in the form and the place of another's: verbs, directions, values, numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cvg.composition.composition import Relation
from cvg.composition.labels import Label
from cvg.composition.language import PREPOSITIONS, inflected, is_verb, lemmas
from cvg.composition.lexicon import ACTION
from cvg.composition.phrases import plain

_OBJECTS = {"its": "it", "his": "him", "her": "her", "their": "them"}
_NO_OBJECT = PREPOSITIONS | frozenset(
    "before after until since and or but while whereas when as then who which that is are was were again together "
    "outside outdoors nearby hard home alone everywhere because there here overhead uphill downhill upstairs "
    "downstairs".split()
)
"""Words after a verb that are none of its objects."""
_STATES = frozenset("seated perched sprawled hunched huddled curled suspended".split())
_COPULA = re.compile(
    r"\b(is|are|was|were|be|been|being|has|have|had|gets?|getting)\s+(\w+ly\s+|being\s+)?$", re.IGNORECASE
)
_OPEN_ENDS = frozenset("at for to with through into on of".split())
_MADE_OF, _MADE = "made of ", re.compile(r"\b(made|built|carved|crafted)\s+(out\s+)?of\s+$", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """Where a relation's words stand: ``prompt[relation.start:relation.end]``."""

    prompt: str
    relation: Relation

    @property
    def before(self) -> str:
        """The text before them."""
        return self.prompt[: self.relation.start]

    @property
    def inverted(self) -> bool:
        """Whether the subject follows them, as after a place or a way: "up the stairs runs a boy"."""
        subject = self.relation.entities[0].start if self.relation.entities else 0
        between = self.prompt[self.relation.end : max(subject, self.relation.end)].split()
        return subject > self.relation.end and len(between) <= 1

    @property
    def following(self) -> str:
        """The word or sign after them, in lower case; empty at the end."""
        found = re.match(r"\s*([\w'’-]+|\S)", self.prompt[self.relation.end :])
        return found[1].lower() if found else ""


def phrase_for(place: Place, label: Label, other: Label) -> str | None:
    """What says another label in the place and the form of a relation's words; None where nothing does.

    A wording of the label set is replaced with the one at the same place among the other's. Else verbs keep their form,
    directions and values their style.

    Args:
        place: the relation's words.
        label: its label.
        other: the label to be said.
    """
    words = plain(place.relation.wording)
    if not words:
        return None
    wordings = [plain(wording) for wording in label.wordings]
    if words in wordings and not label.question:
        return other.wordings[wordings.index(words) % len(other.wordings)]
    new = _other_words(place, words, label, other)
    if new is None:
        return None
    return new[0].upper() + new[1:] if place.relation.wording[0].isupper() else new


def _other_words(place: Place, words: str, label: Label, other: Label) -> str | None:
    first = words.split()[0]
    said = other.wordings[0].split()
    stem = sorted(lemmas(said[0].lower(), "VERB")) or [said[0].removesuffix("ing")] if said[0].endswith("ing") else []
    own = label.wordings[0].split()[0].lower().removesuffix("ing")
    verbs = sorted(lemma for lemma in lemmas(first, "VERB") if is_verb(lemma))
    if not verbs and label.wordings[0].split()[0].endswith("ing") and first in (own, f"{own}s", f"{own}ing"):
        verbs = [own]  # "meows", which the dictionary does not have
    known = not words.startswith(tuple(_OBJECTS)) and (label.patterns or words in map(plain, label.wordings))
    if not (known or words.split()[0] != label.wordings[0].split()[0].lower()):
        return None
    if label.has_object and not verbs:
        return _with_object(words, label, other)
    if words.removeprefix("to ") == plain(label.wordings[0]).partition(" ")[2]:
        return _direction(place, words, label, other)
    if stem and verbs and first not in ("left", "right") and label.wordings[0].split()[0].endswith("ing"):
        new = " ".join([inflected(stem[0], _tag(place, first, verbs[0])), *said[1:]])
        return new + _beside(place, words) if label.category == ACTION else new
    if stem and words == "asleep":
        return other.wordings[0]
    if stem:
        return _direction(place, words, label, other)
    if words.startswith(_MADE_OF) or _MADE.search(place.before):
        made = next((pattern for pattern in other.patterns if pattern.startswith(_MADE_OF)), None)
        return made if made is None or words.startswith(_MADE_OF) else made.removeprefix(_MADE_OF)
    return other.wordings[0]


def _beside(place: Place, words: str) -> str:
    """What joins a verb that takes no object to one that stands after the words: "chops onions", "looks at a fox"."""
    following = place.following
    if place.inverted:
        return ""
    if following == "of":
        return " in front"
    plainly = following in _NO_OBJECT or following.endswith(("ly", "ward", "wards"))
    open_end = words.split()[-1] in _OPEN_ENDS
    return " beside" if following[:1].isalnum() and (open_end or not plainly) else ""


def _with_object(words: str, label: Label, other: Label) -> str | None:
    """A relation in place of one: "its left" becomes "its right" or "behind it"; "past", after a verb, "towards"."""
    owner = next((word for word in words.split() if word in _OBJECTS), None)
    said = other.wordings[0]
    if said.split()[0].endswith("ing"):
        said = said.partition(" ")[2]
    if owner is None or not said:
        return said or None
    side, new = (_side(one) for one in (label, other))
    return re.sub(rf"\b{side}\b", new, words) if side and new else f"{said} {_OBJECTS[owner]}"


def _side(label: Label) -> str:
    found = (re.fullmatch(r"to the (\w+) of", wording) for wording in label.wordings)
    return next((match[1] for match in found if match), "")


def _tag(place: Place, form: str, lemma: str) -> str:
    """Which form of its lemma a verb has."""
    if (form.endswith("ing") and form != lemma) or form in _STATES:
        return "VBG"
    if form == lemma:
        return "VBP"
    if form.endswith("s"):
        return "VBZ"
    return "VBN" if _COPULA.search(place.before) or place.following == "by" else "VBD"


def _direction(place: Place, words: str, label: Label, other: Label) -> str | None:
    """The other label's direction in the style of one: "to the left", "leftwards", "from right to left", "left"."""
    same = label.wordings[0].split()[0] == other.wordings[0].split()[0]
    tails = [wording.split(maxsplit=1)[1] for wording in other.wordings if " " in wording and same]
    if not tails:
        return None
    if words in ("up", "down") and place.following in ("a", "an", "the", "its", "his", "her", "their"):
        return next((tail for tail in tails if tail in PREPOSITIONS - {"left", "right"}), None)
    if words.startswith("from "):
        crossing = [pattern.partition("from ")[2] for pattern in other.patterns if ".. from " in pattern]
        crossing = [f"from {text}" for text in crossing if "|" not in text and ".." not in text]
        tails = crossing or tails
    style = r"to |toward" if words.startswith(("to ", "toward")) else ""
    if words.endswith(("ward", "wards")):
        style = r".*wards?$"
    tail = next((tail for tail in tails if re.match(style, tail)), tails[0])
    return f"to {tail}" if label.question and words.startswith("to ") and not tail.startswith("to ") else tail


def article_before(prompt: str, start: int, words: str) -> tuple[int, int, str] | None:
    """An article right before, that the new words need in its other form: where it stands, and that form."""
    found = re.search(r"\b(an?)\s+$", prompt[:start], re.IGNORECASE)
    if not found:
        return None
    fitting = "an" if words[0].lower() in "aeiou" else "a"
    if fitting == found[1].lower():
        return None
    return found.start(1), found.end(1), fitting.capitalize() if found[1][0].isupper() else fitting


def agreeing(prompt: str, relation: Relation, was: str, becomes: str) -> dict[tuple[int, int], str]:
    """The edits that make the counted noun, and a verb right after it, agree with another number.

    Args:
        prompt: the prompt.
        relation: the number, of one entity.
        was: its plainest word.
        becomes: that of the other number.

    Returns:
        New texts by the span that they replace; none unless one of the numbers is one.
    """
    if (was == "one") == (becomes == "one"):
        return {}
    entity = relation.entities[0]
    noun = re.search(r"[\w-]+$", entity.phrase.split(" of ")[0])
    if noun is None:
        return {}
    start = entity.start + noun.start()
    tags = ("NNS", "VBP") if was == "one" else ("NN", "VBZ")
    base = sorted(lemmas(noun[0].lower(), "NOUN")) or [noun[0]]
    edits = {(start, start + len(noun[0])): inflected(base[0], tags[0])}
    verb = re.match(r"\s+([a-z]+)\b", prompt[entity.end :])
    if verb and verb[1] not in PREPOSITIONS:
        forms = sorted(lemma for lemma in lemmas(verb[1], "VERB") if is_verb(lemma))
        if forms and (verb[1].endswith("s") if was == "one" else verb[1] in forms or verb[1] == "are"):
            at = entity.end + verb.start(1)
            edits[at, at + len(verb[1])] = inflected(forms[0], tags[1])
    return edits
