"""Which words of a clause may be nouns, and which can be nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from cvg.composition.language import Word, lemmas

_JOINTS = frozenset("and or but while whereas when where then as because so before after until".split())
# Nouns that look like forms of verbs.
NOUNS = frozenset(
    "building painting ceiling pudding duckling sibling gosling dumpling sapling earring offspring herring starling "
    "railing awning wedding drawing viking seedling hatchling icing stocking lightning clothing carving crossing "
    "evening morning ring wing king string spring thing swing sling clearing kayaking surfing footing seating".split()
)
SINGLE = frozenset("a an one each every another".split())
LINKS = frozenset(("and", ","))
# Verbs that another verb follows: "starts playing".
BEGINNING = frozenset("start starts begin begins stop stops keep keeps continue continues resume resumes".split())
# Nouns that mostly describe others: "a gold box", "a turquoise bow".
COLOURS = frozenset(
    "red green blue pink brown gray grey white black gold silver orange yellow purple turquoise metal glass stone "
    "paper leather plastic cloth wood square".split()
)


def clause(words: Sequence[Word], index: int) -> range:
    """The places around a word up to the next signs, conjunctions and sentence's ends."""

    def ends(word: Word) -> bool:
        return word.sentence != words[index].sentence or word.is_sign or word.text in _JOINTS

    first = next((i + 1 for i in range(index - 1, -1, -1) if ends(words[i])), 0)
    last = next((i for i in range(index + 1, len(words)) if ends(words[i])), len(words))
    return range(first, last)


def is_noun(words: Sequence[Word], word: Word, before: Word | None, verbs: frozenset[str]) -> bool:
    """Whether the model takes a noun for a verb: "a can", "a sled slides", "the well", "a teddy bear"."""
    if before is None:
        return False
    after = words[word.index + 1] if word.index + 1 < len(words) else None
    joins = before.text in LINKS and word.text not in BEGINNING
    if before.text == "," and word.tag in ("VB", "VBP") and after is not None and after.tag == "VBG":
        return word.text in lemmas(word.text, "NOUN")  # ", smoke flowing"
    if word.tag == "VBZ" and joins and after is not None and after.tag in ("VBG", "VB", "VBP"):
        return bool(lemmas(word.text, "NOUN"))  # ", sparks rising", "and leaves fall"
    if word.tag == "VBZ" and (before.kind == "ADJ" or before.text in COLOURS) and not is_single(words, before.index):
        return bool(lemmas(word.text, "NOUN"))  # "with orange leaves"
    if word.tag in ("VB", "VBP") and before.tag in ("NN", "NNP") and after is not None and after.text.endswith("s"):
        named = lemmas(word.text, "NOUN") and lemmas(after.text, "VERB") & verbs and after.text not in verbs
        if named and before.index == 0:
            return True  # "Incense smoke curls"
    counted = words[before.index - 1] if before.index else None
    if word.tag == "VBZ" and before.tag == "NN" and counted is not None and counted.kind == "NUM":
        return counted.text not in ("one", "1")  # "two milk floats rattle"
    article = before.text in ("a", "an", "the")
    if word.is_verb and word.tag != "VBZ" and word.text in lemmas(word.text, "NOUN") and described(words, word.index):
        return word.tag != "VBN"
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
    # "a man and a woman lift a sofa"; but "a hydrant and a stop sign"
    joined = word.index > 2 and words[word.index - 3].text == "and" and after is not None
    return (
        (not joined or before.text in COLOURS)
        and not (after and after.kind == "DET")
        and not any(words[place].is_verb for place in clause(words, word.index) if place < word.index)
    )


def describes(words: Sequence[Word], index: int) -> bool:
    """Whether a word that the dictionary has as an adjective and as no adverb stands before a noun."""
    after = words[index + 1] if index + 1 < len(words) else None
    text = words[index].text
    return after is not None and after.is_noun and bool(lemmas(text, "ADJ")) and not lemmas(text, "ADV")


def is_only_noun(word: str) -> bool:
    """Whether a word can only be a noun: in the dictionary as one and as no adjective, or not at all ("seagull")."""
    kinds = {kind for kind in ("NOUN", "VERB", "ADJ", "ADV") if lemmas(word, kind)}
    return (
        ("NOUN" in kinds or (not kinds and word.isalpha())) and "ADJ" not in kinds and not word.endswith(("ing", "ed"))
    )


def is_only_verb(word: str) -> bool:
    """Whether the dictionary has a word as a verb and as nothing else: "glisten"."""
    others = any(lemmas(word, kind) for kind in ("NOUN", "ADJ", "ADV", "PROPN"))
    return bool(lemmas(word, "VERB")) and not others and not word.endswith(("ing", "ed"))


def is_no_verb(words: Sequence[Word], word: Word) -> bool:
    """Whether the model takes a word for a verb or an adverb that is neither: "broccoli", "a door handle turned"."""
    if word.kind == "VERB":
        after = words[word.index + 1] if word.index + 1 < len(words) else None
        plain = word.tag in ("VB", "VBP") and word.index and words[word.index - 1].text in ("is", "are")
        known = lemmas(word.text, "NOUN")
        if plain and word.text in known:
            return True  # "is squat", "is push up"
        heads = word.index and word.dep == "nsubj" and words[word.index - 1].is_noun and word.text in known
        if heads and after is not None and after.is_verb:
            return True  # "the door handle turned into"
        return not lemmas(word.text, "VERB") and is_only_noun(word.text)
    if word.kind != "ADV":
        return False
    owned = word.text == "back" and word.index > 0 and words[word.index - 1].tag == "POS"  # "the lion's back"
    named = word.dep in ("nsubj", "dobj", "pobj") and bool(lemmas(word.text, "NOUN"))
    return owned or (named and is_only_noun(word.text) and not lemmas(word.text, "ADV"))


def described(words: Sequence[Word], index: int) -> bool:
    """Whether only adjectives stand between "a" and a place: "a deep red", as before "rose"."""
    place = index - 1
    while place >= 0 and (words[place].kind == "ADJ" or words[place].text in COLOURS):
        place -= 1
    return 0 <= place < index - 1 and words[place].text in SINGLE


def is_single(words: Sequence[Word], index: int) -> bool:
    """Whether a place ends a phrase of one thing, which no plural noun goes on: "a thief", "a bus driver"."""
    place = index
    while place >= 0 and (words[place].is_noun or words[place].kind == "ADJ"):
        place -= 1
    return 0 <= place < index and words[place].text in SINGLE and words[index].tag not in ("NNS", "NNPS")


def ends_joined(words: Sequence[Word], index: int) -> bool:
    """Whether a place ends two joined phrases of a subject: "a hat and a scarf"."""
    place = index
    while place >= 0 and (words[place].is_noun or words[place].kind == "ADJ" or words[place].kind == "DET"):
        place -= 1
    joined = 0 < place < index and words[place].text == "and" and words[place - 1].is_noun
    return joined and not lemmas(words[index].text, "ADJ")
