"""The patterns of a label set: how sentences state a label, over lemmas.

A pattern is words in a row, such as ``move|go left``. ``a|b`` stands for either word, ``<NAME>`` for one of a list of
words that the group names under ``words``, and ``..`` for words between, of the same clause. Words are compared by
their lemmas ("moves", "moving"), or as they stand; determiners and adverbs between them do not matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cvg.common.errors import DataError

GAP = ".."


def expanded(pattern: str, words: Mapping[str, Sequence[str]], where: str) -> str:
    """A pattern with its lists of words written out.

    Args:
        pattern: see the module.
        words: lists of words by name.
        where: what the pattern belongs to, to begin a message with.

    Raises:
        DataError: an unknown list, or a gap at an end.
    """

    def listed(found: re.Match[str]) -> str:
        if found[1] not in words:
            known = ", ".join(words) or "none"
            raise DataError(f"{where}: pattern {pattern!r}: <{found[1]}> is no list of its group's words ({known})")
        return "|".join(words[found[1]])

    full = re.sub(r"<([^<>]*)>", listed, pattern)
    parts = full.lower().split()
    if parts[0] == GAP or parts[-1] == GAP or any(not option for part in parts for option in part.split("|")):
        raise DataError(f"{where}: pattern {pattern!r}: expected words; '..' stands between words, '|' between two")
    return " ".join(parts)
