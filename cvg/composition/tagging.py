"""Mending what the small model takes words for: verbs for nouns, nouns for verbs and adjectives."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cvg.composition.agreement import mend_agreement
from cvg.composition.language import PREPOSITIONS, Word, lemmas, tokens_of
from cvg.composition.nouns import (
    BEGINNING,
    COLOURS,
    LINKS,
    NOUNS,
    SINGLE,
    clause,
    describes,
    ends_joined,
    is_no_verb,
    is_noun,
    is_only_noun,
    is_only_verb,
    is_single,
)
from cvg.composition.phrases import MEDIA
from cvg.composition.predicates import mend_clauses

_BEING = frozenset("is are was were 's".split())
_ACROSS = frozenset(("over", "through", "under"))
_SIGNS = frozenset("stop street road traffic neon warning exit wooden shop store".split())
_WAYS = frozenset("left right up down sky earth heaven".split())
_COMMON = frozenset("land leave enter look turn stop start begin disappear appear vanish hide".split())
# "a toy sewing machine" is one thing, "a bear dancing ballet" does another.
_TOOLS = frozenset(
    "machine pool board room table rod car boat chair bag suit bike pot pan dog horse shoe boot stone track club "
    "school gear kit set mat hall stick ball basket tool light plane bird fish tower bridge area stand line hat".split()
)


def words_of(prompt: str, verbs: frozenset[str]) -> list[Word]:
    """The words of a prompt.

    Args:
        prompt: the text.
        verbs: plain forms of verbs to expect: where the model takes one for a noun ("a ball rolls"), it is a verb if
            its clause has none.
    """
    words = tokens_of(prompt)
    for word in words:
        if _is_direction(words, word):
            word.kind, word.tag = "ADV", "RB"
        elif word.text == "being" and word.index + 1 < len(words) and words[word.index + 1].tag == "VBN":
            word.kind, word.tag = "AUX", "VBG"
        elif word.tag == "JJR" and word.index and words[word.index - 1].is_noun and lemmas(word.text, "NOUN"):
            word.kind, word.tag = "NOUN", "NN"  # "a vacuum cleaner"
        elif word.kind == "ADV" and word.text.endswith("ly") and describes(words, word.index):
            word.kind, word.tag = "ADJ", "JJ"  # "ghostly fish"
        elif (word.kind in ("ADJ", "INTJ", "X") and is_only_noun(word.text)) or is_no_verb(words, word):
            many = lemmas(word.text, "NOUN") and word.text not in lemmas(word.text, "NOUN")
            word.kind, word.tag = "NOUN", "NNS" if many else "NN"
    for word in words:
        if word.index and _is_described_participle(words, word):
            for describing in (words[word.index - 1], word):
                describing.kind, describing.tag = "ADJ", "JJ"
        elif word.text == "," and _is_between_adjectives(words, word.index):
            for describing in (words[word.index - 1], words[word.index + 1]):
                describing.kind, describing.tag = "ADJ", "JJ"
    for word in words:
        _settle(words, word, verbs)
    for word in words:
        if _is_joined_verb(words, word, verbs):
            word.kind, word.tag = "VERB", "VBZ"
        elif word.index > 1 and _names_action(words, word, verbs):
            word.kind, word.tag = "VERB", "VBG"
            words[word.index - 1].kind, words[word.index - 1].tag = "ADV", "RB"
        elif word.tag == "VBG" and _is_of_agent(words, word):
            word.kind, word.tag = "ADJ", "JJ"
    mend_agreement(words, COLOURS)
    mend_clauses(words, verbs)
    for word in words:
        known = lemmas(word.text, "VERB" if word.is_verb else "NOUN" if word.is_noun else "ADJ")
        word.forms = word.forms | known | ({word.text.removesuffix("s")} if word.is_noun else set())
    return words


def _is_direction(words: Sequence[Word], word: Word) -> bool:
    """Whether the model takes an adverb of direction for another kind of word: "runs left", "scuttles leftwards"."""
    if word.text in ("left", "right"):
        after = words[word.index + 1] if word.index + 1 < len(words) else None
        return word.is_verb and not (after and after.kind in ("DET", "PRON"))
    return word.text.endswith(("ward", "wards")) and word.text.removesuffix("s").removesuffix("ward") in _WAYS


def _names_action(words: Sequence[Word], word: Word, verbs: frozenset[str]) -> bool:
    """Whether the noun before a participle is a part of what somebody does: "is ice skating", "is robot dancing"."""
    noun, being = words[word.index - 1], words[word.index - 2]
    after = words[word.index + 1] if word.index + 1 < len(words) else None
    said = word.tag == "VBG" or (word.is_noun and word.text.endswith("ing") and word.text not in NOUNS)
    said = said and bool(lemmas(word.text, "VERB") & verbs) and noun.tag in ("NN", "NNP")
    return said and being.forms <= _BEING and (after is None or after.is_sign or after.kind in ("ADP", "ADV", "CCONJ"))


def _is_of_agent(words: Sequence[Word], word: Word) -> bool:
    """Whether a participle describes who does something: "is fringed by weeping willows"."""
    after = words[word.index + 1] if word.index + 1 < len(words) else None
    agent = word.index > 0 and words[word.index - 1].text == "by" and words[word.index - 1].dep == "agent"
    return agent and after is not None and after.is_noun


def _is_described_participle(words: Sequence[Word], word: Word) -> bool:
    """Whether a participle after an adverb describes a noun: "a freshly painted mallet"."""
    if word.index < 2 or word.index + 1 >= len(words) or not lemmas(word.text, "VERB"):
        return False
    article, adverb, after = words[word.index - 2], words[word.index - 1], words[word.index + 1]
    opened = article.kind == "DET" or article.tag == "PRP$" or (article.kind == "NUM" and article.text != "one")
    participle = word.tag in ("VBG", "VBN", "VBD") or word.text.endswith(("ing", "ed"))
    described = adverb.text.endswith("ly") and (adverb.kind in ("ADV", "ADJ") or bool(lemmas(adverb.text, "ADV")))
    return opened and described and participle and (after.is_noun or (after.kind == "ADJ" and after.head > after.index))


def _is_between_adjectives(words: Sequence[Word], comma: int) -> bool:
    """Whether a comma stands between words that describe a noun: "a shaggy, snow-covered yak"."""
    if comma < 2 or comma + 2 >= len(words):
        return False
    before, after, noun = words[comma - 1], words[comma + 1], words[comma + 2]
    if words[comma - 2].kind != "DET" and words[comma - 2].tag != "PRP$":
        return False
    second = after.kind == "ADJ" or "-" in after.text or _may_describe(after)
    return (before.kind == "ADJ" or _may_describe(before)) and second and (noun.is_noun or noun.kind == "ADJ")


def _may_describe(word: Word) -> bool:
    """Whether a word can stand before a noun and is none: "shaggy", "tattooed"."""
    known = bool(lemmas(word.text, "ADJ")) or word.text.endswith(("ed", "ing"))
    return known and not lemmas(word.text, "NOUN") and word.text not in NOUNS


def _is_joined_verb(words: Sequence[Word], word: Word, verbs: frozenset[str]) -> bool:
    """Whether a word that is taken for a noun is a second verb: "runs and barks", "rides a bike and waves"."""
    if word.is_verb or word.index < 2 or words[word.index - 1].text not in LINKS:
        return False
    begins = word.text in BEGINNING
    if word.index + 1 < len(words) and words[word.index + 1].tag in ("VBG", "VB", "VBP") and not begins:
        return False
    plain = lemmas(word.text, "VERB")
    if word.text in plain or not plain or not word.text.endswith("s") or word.text in PREPOSITIONS:
        return False
    link = word.index - 1
    while link > 0 and words[link - 1].text in LINKS:
        link -= 1
    earlier = [other for other in words[:link] if other.sentence == word.sentence and other.tag == "VBZ"]
    after = words[word.index + 1] if word.index + 1 < len(words) else None
    if not earlier or (after is not None and (after.is_noun or after.kind == "ADJ") and after.tag != "PRP$"):
        return False
    if after is not None and (after.kind == "DET" or after.tag == "PRP$" or after.text.endswith("ly")):
        return True
    if not plain & (verbs | _COMMON):
        return False
    # "watches birds and flies": joined nouns.
    return words[link - 1].tag not in ("NNS", "NNPS") and (
        words[word.index - 1].text == "and" or earlier[-1].index == link - 1
    )


def _ends_subject(words: Sequence[Word], word: Word) -> bool:
    """Whether a word that is tagged as no noun ends a subject: "a mechanic kneels", "a woman over 40 walks"."""
    previous = words[word.index - 1].text if word.index else ""
    if word.kind == "NUM":
        return previous in ("over", "under", "above", "aged") and word.index > 1
    return word.kind == "ADJ" and previous in ("a", "an") and word.text in lemmas(word.text, "NOUN")


def _settle(words: Sequence[Word], word: Word, verbs: frozenset[str]) -> None:
    """Mend what the small model often gets wrong: verbs that it takes for nouns, and nouns for verbs."""
    before = words[word.index - 1] if word.index else None
    after = words[word.index + 1] if word.index + 1 < len(words) else None
    if before is not None and before.kind == "AUX" and word.text.endswith("ing") and lemmas(word.text, "VERB") & verbs:
        word.kind, word.tag = "VERB", "VBG"
        return
    if word.text == "crossing" and before is not None and before.is_noun and after and after.text in _ACROSS:
        word.kind, word.tag = "VERB", "VBG"
        return
    if word.is_noun and before is not None and word.text in MEDIA:
        return  # "studio shot"
    if word.text in ("sign", "signs") and before is not None and before.text in _SIGNS:
        word.kind, word.tag = "NOUN", "NN" if word.text == "sign" else "NNS"
        word.verbal = 0.0
        return  # "a stop sign"
    if word.text in NOUNS and not (after and (after.kind == "DET" or after.tag == "PRP$")):
        if word.is_verb:
            word.kind, word.tag = "NOUN", "NN"
        return
    determined = before is not None and (before.kind in ("DET", "NUM") or before.tag in ("PRP$", "POS"))
    if before is not None and _ends_subject(words, before):
        determined = False
    if is_noun(words, word, before, verbs):
        many = word.tag == "VBZ" and word.text not in lemmas(word.text, "NOUN")
        word.kind, word.tag = "NOUN", "NNS" if many else "NN"
        return
    if word.is_verb or word.kind not in ("NOUN", "PROPN", "ADJ", "ADV", "INTJ", "X", "ADP"):
        return
    plain = lemmas(word.text, "VERB")
    if not plain or word.text in PREPOSITIONS or before is None or determined:
        return
    counted = words[before.index - 1] if before.index else None
    if before.tag == "NN" and counted is not None and counted.kind == "NUM" and counted.text != "one":
        return  # "two bus stops"
    named = before.is_noun or before.tag == "PRP" or _ends_subject(words, before)
    ended = named and word.text not in plain and word.text.endswith("s")
    single = ended and (before.text == "camera" or is_single(words, word.index - 1))
    # "slices glisten in the sun"
    open_after = after is None or after.is_sign or after.kind in ("ADP", "ADV", "CCONJ")
    many = named and word.text in plain and (before.tag in ("NNS", "NNPS") or is_only_verb(word.text)) and open_after
    if (not plain & verbs and not single and not many) or (before.text in COLOURS and not single):
        return
    if word.text.endswith("ing"):
        heads = word.dep in ("compound", "amod") and after is not None and (after.is_noun or after.kind == "ADJ")
        if heads and before.is_noun and before.index and words[before.index - 1].text in SINGLE:
            heads = after is not None and not _TOOLS.isdisjoint({after.text, after.text.removesuffix("s")})
        if named and not heads and re.search("[aeiouy]", word.text[:-3]):
            word.kind, word.tag = "VERB", "VBG"
        return
    around = [words[i] for i in clause(words, word.index) if i != word.index]
    follows = after is None or not (after.is_noun or after.kind == "ADJ") or after.tag == "PRP$"
    # "pulled by two dogs moves": plural nouns have no verb of this form, so it is a verb of another.
    passed = single or (ended and before.tag in ("NNS", "NNPS"))
    finite = any(other.is_verb and other.tag not in (("VBG", "VBN") if passed else ()) for other in around)
    if named and (follows or single) and not finite:
        plural = word.text not in plain
        if plural or many or before.tag in ("NNS", "NNPS") or ends_joined(words, before.index):
            word.kind, word.tag = "VERB", "VBZ" if plural else "VBP"
            if before.kind == "ADJ":
                before.kind, before.tag = "NOUN", "NN"
