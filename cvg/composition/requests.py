"""What of a prompt asks for a video and shows nothing in it, and asides of what somebody wears or holds."""

from __future__ import annotations

import re

from cvg.composition.language import PREPOSITIONS, lemmas
from cvg.composition.phrases import QUALITY

_WHOLE = r"(?:an?|the|one|two|three|four|five|six|seven|eight|nine|ten|some|several|many|\d+)\b"
_FILM = r"(?:videos?|clips?|movies?|films?|animations?|footage|scenes?|shots?)"
_MEDIUM = rf"(?:{_FILM}|gifs?|pictures?|images?|renderings?)"
_SHOWING = r"(?:with|in\s+which|where|that\s+shows?|which\s+shows?|showing|depicting|featuring)"
_PRAISE = "|".join(sorted(QUALITY)) + "|short|long|brief|slow|motion|animated|beautiful|funny|wide|aerial|drone|video"
_ADJECTIVES = rf"(?:(?:{_PRAISE}|\d+|\w+-\w+),?\s+){{0,5}}?"
_SOME_MEDIUM = rf"(?:{_WHOLE}\s+)?{_ADJECTIVES}{_MEDIUM}\s+(?:of|{_SHOWING})\s+"
_DRAW = (
    r"(?:create|generate|render|produce|draw|animate|film|visuali[sz]e|depict|imagine|picture|"
    r"show|(?:show|give)\s+(?:me|us))"
)
_MAKE = r"(?:(?:make|create|generate|render|produce|film)(?:\s+(?:me|us))?)"
_ASKED = r"(?:(?:can|could|would|will)\s+you\s+(?:please\s+|kindly\s+)?)"
_CAN_HAVE = r"(?:(?:can|could|may)\s+(?:i|we)\s+(?:please\s+)?(?:have|get|see))"
_WISH = r"(?:(?:i|we)(?:(?:\s+would|['’]d)(?:\s+really)?\s+(?:like|love)|\s+(?:want|need))(?:\s+you)?)"
_HAVE = r"(?:see|watch|have|get)"
_REQUEST = re.compile(
    r"\s*(?:please,?\s+)?(?:"
    rf"(?P<asked>(?:{_CAN_HAVE}|{_ASKED}(?:{_MAKE}|{_DRAW}))\s+{_SOME_MEDIUM}|{_ASKED}{_DRAW}\s+(?={_WHOLE}))"
    rf"|(?:{_MAKE}|{_DRAW}|{_WISH}(?:\s+to\s+(?:{_HAVE}|{_MAKE}|{_DRAW}))?)\s+{_SOME_MEDIUM}"
    rf"|(?:{_DRAW}|{_WISH}(?:\s+to\s+{_DRAW})?)\s+(?={_WHOLE})"
    rf"|{_WISH}\s+to\s+(?={_HAVE}\s+{_WHOLE}))",  # "to see a girl dance" has its verb by "see"
    re.IGNORECASE,
)
_OPENED = re.compile(rf"\s*(?:{_WHOLE}\s+)?{_ADJECTIVES}{_FILM}\s+{_SHOWING}\s+(?={_WHOLE})", re.IGNORECASE)
_PLEASE = re.compile(r",?\s+please(?=\s*[.!?]*\s*$)", re.IGNORECASE)
_ENDED = re.compile(r"[.!?](?=\s|$)")
_BODY = (
    r"(?:shoulders?|hands?|heads?|backs?|arms?|hips?|waists?|necks?|laps?|face|knees?|legs?|chest|mouth|teeth|"
    r"side|ears?)"
)
_ASIDE = re.compile(
    r",\s+(?P<said>(?P<noun>[\w-]+)(?:\s+[\w-]+)?\s+"
    r"(?:over|in|on|across|at|under|behind|around|against|between|about)\s+"
    rf"(?:[\w-]+\s+){{0,2}}{_BODY})(?P<end>\s*,\s+(?=(?P<next>[\w-]+))|\s*(?=[.!;]|$))",
    re.IGNORECASE,
)


def without_requests(text: str) -> str:
    """A prompt with blanks in place of the words that ask for it: "Could you render", "I would like a video with".

    Returns:
        A text of the same length. Of a question that asks for a video, the mark is gone too.
    """
    found = _REQUEST.match(text) or _OPENED.match(text)
    if found is not None:
        asked = found.groupdict().get("asked")
        text = _blanked(text, 0, found.end())
        end = _ENDED.search(text)
        if asked and end is not None:
            text = _blanked(text, end.start(), end.end(), "." if end[0] == "?" else end[0])
    polite = _PLEASE.search(text)
    return _blanked(text, *polite.span()) if polite is not None else text


def without_asides(text: str) -> tuple[str, list[str]]:
    """A prompt with blanks in place of what tells between commas what somebody wears or holds.

    "a knight, cape over one shoulder, walks left" asks for no cape above a shoulder.

    Returns:
        A text of the same length, and the asides.
    """
    asides = []
    for found in _ASIDE.finditer(text):
        noun = found["noun"].lower()
        if noun in PREPOSITIONS or not lemmas(noun, "NOUN"):
            continue
        following = (found["next"] or "").lower()
        acts = bool(lemmas(following, "VERB")) and following not in PREPOSITIONS
        text = _blanked(text, found.start(), found.end() if acts else found.end("said"))
        asides.append(found["said"])
    return text, asides


def _blanked(text: str, start: int, end: int, by: str = "") -> str:
    return text[:start] + by.ljust(end - start) + text[end:]
