"""What of a prompt no reading uses: every word is an entity's, a relation's, of the surroundings, or named here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from cvg.composition.language import Word
from cvg.composition.lexicon import Lexicon
from cvg.composition.phrases import FRAME, MEDIA, QUALITY

_CONTENT = ("NOUN", "PROPN", "VERB", "ADJ", "NUM")
_WITHIN = (*_CONTENT, "ADV", "ADP", "PART", "DET", "PRON", "AUX", "SCONJ")
_SURROUNDINGS = frozenset(
    "light lighting sunlight moonlight candlelight daylight backlight shadow shadows glow haze mist fog bokeh blur "
    "focus depth field lens angle closeup wide close macro aerial drone handheld tracking dolly zoom pan tilt crane "
    "static color colors colour colours palette tone tones contrast grain film style look mood atmosphere texture "
    "textures composition framing background foreground morning noon afternoon evening dusk dawn sunset sunrise night "
    "midnight day winter summer autumn spring sky rain snow weather golden blue hour vintage retro surreal fantasy "
    "anime cartoon art concept painting watercolor oil sketch noir cyberpunk steampunk minimalist dreamy epic "
    "dramatic soft warm cold slow fast motion speed time lapse timelapse fps quality resolution realism render "
    "masterpiece".split()
)
"""Words of time, light, camera, style and quality: they are of the whole picture."""
_WAYS = frozenset("left right above below under over behind beside inside near up down towards toward past".split())


def unused(prompt: str, words: Sequence[Word], used: Collection[int]) -> list[str]:
    """The parts of a prompt that no relation uses and that are more than its surroundings.

    Args:
        prompt: the prompt.
        words: its words.
        used: places of those that are an entity's, a relation's, or in words that were left out with a reason.

    Returns:
        Pieces of the prompt, in order; small words alone make none.
    """
    found: list[list[Word]] = [[]]
    for word in words:
        free = word.index not in used and not word.is_sign and word.kind in _WITHIN
        if not free or (found[-1] and word.sentence != found[-1][-1].sentence):
            found.append([])
        if free:
            found[-1].append(word)
    pieces = (_trimmed(piece) for piece in found)
    return [prompt[piece[0].start : piece[-1].end] for piece in pieces if piece and not _surrounds(piece)]


def unstated(words: Sequence[Word], used: Collection[int], lexicon: Lexicon) -> Iterator[str]:
    """The words that could state a label of the set and do not: places and ways, colours, numbers.

    Args:
        words: of the prompt.
        used: see :func:`unused`.
        lexicon: of the label set.
    """
    for place, word in enumerate(words):
        if word.index in used or word.is_sign:
            continue
        around = {other.text for other in words[max(0, place - 4) : place + 4]}
        if not around.isdisjoint(FRAME):
            continue  # "as the camera pans left"
        valued = word.text in lexicon.values and word.kind in ("ADJ", "NUM", "NOUN") and word.text not in _SURROUNDINGS
        if valued or word.text in _WAYS:
            yield word.text


def shared(words: Sequence[Word], stated: Collection[int], lexicon: Lexicon) -> Iterator[str]:
    """Values of one group that "and" joins before one noun, of which none is stated: "a red and white lighthouse".

    Args:
        words: of the prompt.
        stated: first characters of the words that state labels.
        lexicon: of the label set.
    """
    for first, joint, second in zip(words, words[1:], words[2:], strict=False):
        pair = [lexicon.values.get(word.text) for word in (first, second)]
        alike = pair[0] is not None and pair[1] is not None and pair[0].group == pair[1].group
        if joint.text == "and" and alike and first.start not in stated and second.start not in stated:
            yield f"{first.text!r} and {second.text!r} are said of one thing"


def _trimmed(piece: Sequence[Word]) -> Sequence[Word]:
    """A piece without the small words at its end."""
    last = len(piece)
    while last and piece[last - 1].kind not in _CONTENT and piece[last - 1].text not in _WAYS:
        last -= 1
    return piece[:last]


def _surrounds(piece: Sequence[Word]) -> bool:
    """Whether the words of a piece are all of the picture as a whole, or none has a meaning of its own."""
    content = [word for word in piece if word.kind in _CONTENT or word.text in _WAYS]
    named = [word for word in content if word.is_noun]
    known = _SURROUNDINGS | QUALITY | FRAME | MEDIA
    if named and all(word.text in known or not word.forms.isdisjoint(known) for word in named):
        return not any(word.is_verb for word in content)  # "under soft golden light"
    return all(word.text in known or any(character.isdigit() for character in word.text) for word in content)
