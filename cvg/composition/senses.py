"""Words that state a label elsewhere and none here: idioms, parts of a noun phrase, what is of the picture."""

from __future__ import annotations

from collections.abc import Sequence

from cvg.composition.language import PREPOSITIONS, Word
from cvg.composition.match import Match
from cvg.composition.phrases import DETERMINERS, FRAME

_IDIOMS = frozenset(
    "fire top foot sale time board display tv television camera purpose duty earth average holiday vacation "
    "impact arrival contact stage-left schedule".split()
)
"""Nouns after a bare preposition that make no place of it: "on fire"."""
_NO_PLACES = frozenset(
    "way left right side background foreground morning night day evening afternoon air distance phone wind moment "
    "move go sky curve turn corner haze mist fog darkness view silence space focus action place position song contact "
    "orbit bloom flight motion life existence pieces halves play path environment "
    "adventure journey quest trip mission expedition voyage inspection family round phase era game season sleep "
    "slumber trance lead".split()
)
"""Nouns that make no place even with an article: "on the left", "into the distance"."""
_OPENING = ("DET", "ADJ", "ADP", "NUM", "CCONJ", "PUNCT")
_MODIFIERS = ("ADJ", "NUM", "NOUN", "PROPN")
_QUOTES = frozenset("\"'“«")
_TURNING = frozenset("grow go get turn become fall run".split())
"""Verbs that an adjective completes: "grows angry"."""
_LOOKS = frozenset("look smell taste feel sound".split())
_BECOMING = frozenset(
    "turn grow change transform freeze morph melt fade burst break cut carve fold look split divide separate collapse "
    "dissolve crumble explode shatter tear blend merge mix slice chop shape mold form arrange braid curl".split()
)
"""Verbs after which "into" leads to no place."""
BODY = frozenset(
    "belly back side stomach foot feet leg legs knee knees toe toes tiptoe haunches ear ears head nose "
    "face paw paws eye eyes fur".split()
)
"""What an entity itself is on: "on its back"."""
_OVERHEAD = frozenset(
    "sky skies heaven heavens light sunlight moonlight starlight daylight spotlight sun stars weight".split()
)
"""What everything is below: "under a cloudless sky" places nothing."""
_LEVEL = frozenset(
    "street road lane path pathway hallway corridor aisle alley alleyway sidewalk trail runway avenue boulevard "
    "highway track beach catwalk passage passageway tunnel walkway promenade".split()
)
"""What "up" and "down" lead along: "walks down the street"."""
_CROSSED = frozenset("bridge road street path crosswalk lawn".split())
_GROUND = frozenset("walk run cross drive ride roll pass go move travel cycle jog race march pedal step".split())
"""Who does so over what is crossed is on it: "walks over a bridge"."""
_WORN = frozenset("put try slip switch turn keep bring".split())
"""Before "on" they are one verb with it: "puts on a hat", "turns on the radio"."""
_THROUGH = frozenset("through over across above in along past around among between beneath".split())
_HEEDING = frozenset("focus concentrate depend rely insist comment reflect agree spy bet".split())
"""Before "on" they name no place either."""
_TASKS = frozenset("project assignment homework thesis report essay puzzle task problem book song script".split())
_FAR = frozenset(
    "out into across along upward upwards skyward endlessly far long toward towards to as from beyond over up "
    "between".split()
)
"""After "stretch" they tell how far a thing reaches."""
_SAID = {
    "give": frozenset(
        "presentation speech talk lecture hug kiss performance concert tour look smile nod wave bow call ride haircut "
        "massage bath birth way thumbs thumb signal command order feel sense quality vibe impression appearance".split()
    ),
    "bear": frozenset("witness fruit resemblance".split()),
    "weave": frozenset(("way", "through", "between")),
    "drive": frozenset(("away", "out", "off")),
    "blow": frozenset(("down", "away", "over", "off")),
    "pop": frozenset(("up", "out")),
    "fall": frozenset(("sleep", "slumber", "trance")),
}
"""Nouns with which a verb says something of its own: "gives a speech"."""
_REMOVED = frozenset("brush wipe comb".split())
_SAYING = frozenset("say read spell".split())
_OWNERS = frozenset("its his her their".split())


def says(words: Sequence[Word], match: Match) -> bool:
    """Whether words state a label here: not to the picture, and not within a noun phrase ("a fishing boat")."""
    before = words[match.places[0] - 1] if match.places and match.places[0] else None
    if before is not None and match.verb is None and match.label.rule and before.forms & _SAYING:
        return False  # "a sign says left of the door"
    if before is not None and before.text == "from" and match.label.has_object and _ends(words, match.places[-1]):
        return False  # "filmed from above,"
    if _is_along(words, match):
        return False
    return is_place(words, match) and not _is_modifier(words, match) and not _is_other(words, match)


def _is_along(words: Sequence[Word], match: Match) -> bool:
    """Whether a direction is no way up or down: "walks down the street", "soars over a lake"."""
    if match.label.rule not in ("moves up", "moves down") or not match.places:
        return False
    last = words[match.places[-1]]
    place = last.index + 1
    while place < len(words) and words[place].kind == "ADV":
        place += 1
    if place >= len(words):
        return False
    if last.text in ("up", "down"):
        named = words[place].text in DETERMINERS and place + 1 < len(words)
        return named and _noun_of(words, place + 1) in _LEVEL
    if last.text == "off" and (words[place].kind == "DET" or words[place].tag == "PRP$"):
        return True  # "takes off a hat"
    return match.places == (match.verb,) and "soar" in last.forms and words[place].text in _THROUGH


def _ends(words: Sequence[Word], place: int) -> bool:
    return place + 1 >= len(words) or words[place + 1].is_sign


def _is_other(words: Sequence[Word], match: Match) -> bool:
    """Whether words of the label's look are something else: "a round pool", "a tall building", "looks green"."""
    last = words[match.places[-1]] if match.places else None
    if last is not None and last.text == "round" and last.kind == "ADJ" and last.head > last.index:
        return True
    if match.verb is None or len(match.places) > 1:
        return False
    verb = words[match.verb]
    if verb.index + 1 < len(words) and words[verb.index + 1].text in _QUOTES:
        return True  # a sign reading "open"
    place = verb.index + 1
    while place + 1 < len(words) and words[place].kind == "ADV":
        place += 1
    after = words[place] if place < len(words) else None
    if verb.forms & _TURNING and after is not None and after.tag in ("JJ", "JJR") and after.text not in PREPOSITIONS:
        beyond = words[place + 1] if place + 1 < len(words) else None
        if beyond is None or not (beyond.is_noun or beyond.kind == "ADJ"):
            return True
    later = [word.text for word in words[verb.index + 1 : verb.index + 4]]
    into = later[:1] == ["in"] and len(later) > 1 and later[1] not in DETERMINERS  # "falls in love"
    if "fall" in verb.forms and (into or "knees" in later):
        return True
    if "stretch" in verb.forms and later[:1] and later[0] in _FAR and _OWNERS.isdisjoint(later):
        return True  # "stretches out to the horizon"; but "stretches out its paws"
    if "prepare" in verb.forms and later[:1] in (["for"], ["to"]):
        return True
    if any(
        said in verb.forms and not what.isdisjoint(_texts(words, verb.index + 1, 5)) for said, what in _SAID.items()
    ):
        return True
    if verb.forms & _REMOVED and "off" in later:
        return True  # "brushes the dust off"
    if "break" in verb.forms and later[:1] in (["down"], ["up"], ["into"], ["out"], ["through"], ["free"]):
        return True  # "breaks down in tears"
    if any(word.tag == "VB" and words[word.index - 1].is_noun for word in words[verb.index + 2 : verb.index + 5]):
        return True  # "watches a girl dance"
    handed = {"to", "between"}.intersection([*later, *_texts(words, verb.index + 4, 2)])
    if "pass" in verb.forms and match.label.has_object and handed:
        return True  # "passes the ball to a friend"
    looks = verb.forms & _LOOKS and any(child.head == verb.index and child.dep == "acomp" for child in words)
    return verb.is_noun or bool(looks)


def _texts(words: Sequence[Word], first: int, count: int) -> list[str]:
    return [word.text for word in words[first : first + count]]


def _is_modifier(words: Sequence[Word], match: Match) -> bool:
    if match.verb is None or len(match.places) > 1 or match.label.rule:
        return False
    word = words[match.verb]
    before = words[word.index - 1] if word.index else None
    after = words[word.index + 1] if word.index + 1 < len(words) else None
    opened = before is not None and (before.kind in _OPENING or before.tag == "PRP$")
    heads = word.dep in ("amod", "compound") and word.head > word.index
    return opened and heads and after is not None and after.kind in ("NOUN", "PROPN", "ADJ")


def is_place(words: Sequence[Word], match: Match) -> bool:
    """Whether a relation is not to the picture ("to the left of the frame"), nor an idiom ("on fire")."""
    if not match.label.has_object or not match.places:
        return True
    after = [word for word in words[match.places[-1] + 1 :][:3] if word.text not in DETERMINERS]
    article = words[match.places[-1] + 1].text if match.places[-1] + 1 < len(words) else ""
    if not after:
        return match.literal
    if match.label.rule == "below" and _noun_of(words, after[0].index) in _OVERHEAD:
        return False
    if after[0].text in FRAME and article not in ("a", "an"):
        return False
    before = words[match.places[0] - 1] if match.places[0] else None
    if match.label.rule in ("above", "below") and "wear" in _verb_before(words, match.places[0]):
        return False  # "wearing a jacket over a vest"
    if match.label.rule == "behind" and before is not None and before.is_verb and "leave" in before.forms:
        return False  # "leaving behind a trail"
    if match.literal or match.verb is not None:
        return True
    noun, said = _noun_of(words, after[0].index), words[match.places[-1]].text
    if said == "into" and _BECOMING & _verb_before(words, match.places[0]):
        return False
    if said == "on" and (noun in BODY or noun == "own") and article in _OWNERS:
        return False
    if said == "on" and before is not None and before.is_verb and before.tag != "VBN" and before.forms & _WORN:
        return False
    heeded = before is not None and before.is_verb and ("work" in before.forms and noun in _TASKS)
    if said in ("on", "upon") and before is not None and (heeded or (before.is_verb and before.forms & _HEEDING)):
        return False
    if said == "over" and noun in _CROSSED and _GROUND & _verb_before(words, match.places[0]):
        return False
    vague = noun in _NO_PLACES and said in ("on", "upon", "into", "at", "in")
    return not vague and (after[0].text not in _IDIOMS or article != after[0].text)


def _verb_before(words: Sequence[Word], place: int) -> frozenset[str]:
    """The forms of the last verb before a place; none where there is none."""
    return next((word.forms for word in reversed(words[:place]) if word.is_verb), frozenset())


def _noun_of(words: Sequence[Word], place: int) -> str:
    """The noun of the phrase from a place on."""
    while place + 1 < len(words) and words[place].kind in _MODIFIERS and words[place + 1].kind in _MODIFIERS:
        place += 1
    return words[place].text
