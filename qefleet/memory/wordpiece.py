"""How BERT reads English: words, lower case and without accents, in pieces of its vocabulary.

As BertNormalizer, BertPreTokenizer and WordPiece of the original (Wu et al. 2016, Devlin et al. 2019) do it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence

WORD_MAX = 100
"""Characters; a longer word is unknown."""

_CJK = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


class WordPiece:
    """Numbers of a text's pieces.

    Args:
        pieces: The vocabulary, in its order.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self._ids: Mapping[str, int] = {piece: number for number, piece in enumerate(pieces)}
        self._begin, self._end, self._unknown = (self._ids[name] for name in ("[CLS]", "[SEP]", "[UNK]"))

    def encode(self, text: str, *, limit: int) -> list[int]:
        """The text's beginning, `limit` pieces of it with the two that enclose it."""
        found = [self._begin]
        for word in _words(text):
            found += self._pieces(word)
            if len(found) >= limit:
                break
        return [*found[: limit - 1], self._end]

    def _pieces(self, word: str) -> list[int]:
        if len(word) > WORD_MAX:
            return [self._unknown]
        found, start = list[int](), 0
        while start < len(word):
            end = len(word)
            while (piece := self._ids.get(("##" if start else "") + word[start:end])) is None:
                end -= 1
                if end == start:
                    return [self._unknown]
            found.append(piece)
            start = end
        return found


def _words(text: str) -> Iterator[str]:
    word = ""
    for character in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(character)
        if kind == "Mn" or (kind[0] == "C" and character not in "\t\n\r") or character == "\ufffd":
            continue
        if character.isspace() or _stands_alone(character, kind):
            if word:
                yield word
            word = ""
            if not character.isspace():
                yield character
        else:
            word += character
    if word:
        yield word


def _stands_alone(character: str, kind: str) -> bool:
    """Punctuation (all of ASCII's symbols count), and Chinese characters."""
    code = ord(character)
    if kind[0] == "P" or ("!" <= character <= "~" and not character.isalnum()):
        return True
    return any(first <= code <= last for first, last in _CJK)
