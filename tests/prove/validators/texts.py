"""Finding which of many given texts occur in a text."""

import json
from collections.abc import Iterable, Iterator
from itertools import takewhile


class TextFinder:
    """Finds whole occurrences, not those inside of longer words: `w-1` is not in `w-10`.

    Its cost follows the text, not the number of given texts, as long as these begin alike.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        # What is searched is JSON, in which some characters are escaped.
        self._by_escaped = {
            json.dumps(text, ensure_ascii=False)[1:-1]: text for text in texts if text
        }
        self._beginning = _common_beginning(self._by_escaped)
        self._lengths = sorted({len(text) for text in self._by_escaped}, reverse=True)

    def find(self, text: str) -> Iterator[str]:
        """Each occurrence of any of the given texts, in order."""
        position = text.find(self._beginning) if self._by_escaped else -1
        while position >= 0:
            if position == 0 or not text[position - 1].isalnum():
                for length in self._lengths:
                    end = position + length
                    given = self._by_escaped.get(text[position:end])
                    if given is not None and not text[end : end + 1].isalnum():
                        yield given
                        break
            if position >= len(text):
                return
            position = text.find(self._beginning, position + 1)


def _common_beginning(texts: Iterable[str]) -> str:
    ordered = sorted(texts)
    if not ordered:
        return ""
    # What the first and the last have in common, all between them have.
    pairs = zip(ordered[0], ordered[-1], strict=False)
    return "".join(ours for ours, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
