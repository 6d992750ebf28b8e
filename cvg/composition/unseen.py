"""What a prompt says and a video would not show: pretended, done to somebody, or done by light and smoke."""

from __future__ import annotations

from collections.abc import Sequence

from cvg.composition.language import Word
from cvg.composition.lexicon import ACTION, CHANGE
from cvg.composition.match import Match
from cvg.composition.phrases import Phrase
from cvg.composition.referents import is_person

_UNREAL = frozenset("pretend fail try attempt refuse want stop avoid plan hope prepare wish threaten forget".split())
# Participles that tell how somebody is: "seated", "perched".
_STATES = frozenset("seat perch sprawl huddle crouch hunch curl lie stand kneel lean recline".split())
_CAST = frozenset(
    "light lamplight sunlight moonlight daylight shadow reflection night dusk silence pressure tension "
    "darkness glow ray beam background foreground atmosphere mood smell scent sound music wind breeze "
    "texture detail".split()
)
_OTHERS = frozenset("another other others someone somebody everyone".split())
_SCENERY = frozenset(
    "wave wind breeze water sea smoke steam mist fog haze cloud sky air dust radio banner rope curtain campfire fire "
    "headlight lamp city street river rain snow time scene summer autumn winter season".split()
)


_STILL = frozenset(
    "tower building skyscraper mountain hill cliff peak ridge road path street trail track rail stair staircase step "
    "crack bridge wall fence row line stalk trunk tree forest city town village castle spire column pillar price "
    "cost rate tension temperature pressure value volume landscape valley field coast shore dune range column corridor "
    "hallway tunnel chimney".split()
)
"""What does not move, whatever is said of it: "a tower rises", "rows of vines run towards the hills"."""
_REACHING = frozenset("run climb crawl march creep walk roll jump swim dive fly".split())
"""Actions that are said of it all the same."""


_PAINTS = frozenset("oil acrylic gouache tempera watercolor watercolour ink charcoal pastel".split())
"""Before "on" and a ground they are what a picture is made with: "oil on canvas"."""


def is_unreal(match: Match, words: Sequence[Word]) -> bool:
    """Whether what a verb says is not what is to be seen: "pretending to sleep", "is being washed"."""
    if match.verb is None:
        return False
    verb = words[match.verb]
    if verb.dep == "xcomp" and words[verb.head].forms & _UNREAL:
        return True
    if verb.tag in ("VB", "VBP") and _is_for_another(words, verb.index):
        return True
    having = any(word.head == verb.index and word.dep == "aux" and "have" in word.forms for word in words)
    passive = verb.tag == "VBN" and not having
    if has_agent(match, words):
        return False
    after = words[verb.index + 1] if verb.index + 1 < len(words) else None
    passive = passive or (verb.text.endswith("ed") and after is not None and after.kind == "ADJ")  # "painted yellow"
    passive = passive and verb.forms.isdisjoint(_STATES)
    if match.label.category == CHANGE and len(match.places) > 1 and words[verb.index - 1].kind != "AUX":
        return False  # "the sky turned orange"
    return passive and not match.label.has_object and match.label.rule is None


def _is_for_another(words: Sequence[Word], verb: int) -> bool:
    """Whether a verb says what somebody else is given something for: "hands a pen to a girl to sign the book"."""
    place = verb - 2
    if place < 1 or words[verb - 1].text != "to":
        return False
    named = is_person(words[place])
    while place > 0 and (words[place].is_noun or words[place].kind in ("ADJ", "DET", "PRON")):
        named = named or words[place].text in _OTHERS
        place -= 1
    return named and words[place].text in ("to", "for")


def has_agent(match: Match, words: Sequence[Word]) -> bool:
    """Whether a participle says by whom: "pulled by a donkey"."""
    return agent_place(match, words) is not None


def agent_place(match: Match, words: Sequence[Word]) -> int | None:
    """The place of the "by" after a participle: "pulled by a donkey"; None where none is."""
    if match.verb is None or words[match.places[0]].tag not in ("VBN", "VBD"):
        return None
    after = match.places[-1] + 1
    while after < len(words) and (words[after].kind == "ADV" or words[after].text in ("along", "away", "around")):
        after += 1
    return after if after < len(words) and words[after].text == "by" else None


def is_scenery(match: Match, subjects: Sequence[Phrase], words: Sequence[Word]) -> bool:
    """Whether a label would be of nothing that does it: light "falls", a radio "plays", shadows lie "on the table"."""
    heads = [words[phrase.head].forms for phrase in subjects]
    if match.label.rule == "on" and any(phrase.bare and words[phrase.last].text in _PAINTS for phrase in subjects):
        return True
    if match.literal and match.verb is None:
        return False
    verb = (
        words[match.verb]
        if match.verb is not None and not (match.label.rule and match.literal and match.sure)
        else None
    )
    reaching = verb is not None and (match.label.rule is not None or not verb.forms.isdisjoint(_REACHING))
    if reaching and any(not forms.isdisjoint(_STILL) for forms in heads):
        return True
    if match.label.category == ACTION:
        return any(not forms.isdisjoint(_CAST | _SCENERY) for forms in heads)
    return match.label.rule is not None and any(not forms.isdisjoint(_CAST) for forms in heads)
