"""Before byte-pair encoding, a pattern cuts the text into words: no token ever crosses a cut.

`split_words(pattern)(text)` gives the words in order. Each vocabulary was trained with one pattern and is only
right with that one; `PATTERNS` holds the published ones.
"""

import re
from collections.abc import Callable

import regex

from course_lib import arguments

_ENGLISH_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

PATTERNS = {
    # GPT-2 paper, section 2.2, and its published encoder: a space travels with the word after it
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # SmolLM cuts the digits out one by one and gives what lies between to GPT-2's pattern. In one
    # pattern: a digit is a word, and white space may end at a digit as it may at the end of the text.
    "smollm": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+",
    # GPT-4: numbers in threes from the left, capital endings ('S) too, line breaks close a word
    "cl100k": r"(?i:'(?:[sdmt]|ll|ve|re))|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    # GPT-4o: a change from small to capital letters (camelCase) cuts as well
    "o200k": rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENGLISH_ENDINGS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENGLISH_ENDINGS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    # Qwen: GPT-4's, with digits one by one
    "qwen": rf"{_ENGLISH_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}

# Which characters are letters depends on the edition of Unicode. `tokenizers` 0.23 and `tiktoken` 0.14 know
# edition 16; `regex` knows later ones. These ranges hold what became a letter, a number or a mark since, and
# nothing that was one in edition 16: for the pattern they are still unassigned, so that all three cut alike.
_NEWER = (
    "\u0558\u058b\u058c\u05c8\u05c9\u088f\u0b53\u0b54\u0c5c\u0cdc\u1acf-\u1af0\u208f\u209d-\u209f"
    "\ua7ce\ua7cf\ua7d2\ua7d4\ua7dd-\ua7f1\uab6c\uab6d\U000107bb-\U000107bf\U00010940-\U00010959"
    "\U00010ec5-\U00010efb\U00011b0a-\U00011b67\U00011db0-\U00011df1\U0001246f-\U0001247f"
    "\U00012550-\U00012686\U00016ea0-\U00016ed3\U00016ff2-\U00016ff6\U000187f8-\U000187ff"
    "\U00018cd6-\U00018cda\U00018d09-\U000191d2\U0001b123-\U0001b128\U0001b168\U0001d127\U0001d128"
    "\U0001d250-\U0001d281\U0001d6a6\U0001df1f-\U0001df24\U0001df2b-\U0001dfff\U0001e6c0-\U0001e6ff"
    "\U0002b73a-\U0002b73f\U0002b81e\U0002cea2-\U0002cead\U000323b0-\U0003fc3f"
)
_ALWAYS_UNASSIGNED = "\ufdd0"  # a noncharacter: no edition will ever make it a letter
_PHARYNGEAL = "\u0295"  # a small letter in edition 16, a letter without case since
_SMALL_LETTER = "\u0250"
_MEANS_MORE = re.compile(r"[][\\.^$*+?{}|()]")  # a regular expression without any of these stands for itself alone
_changed = re.compile(f"[{_PHARYNGEAL}{_NEWER}]")
_may_be_changed = re.compile(f"[{_PHARYNGEAL}-\U0010ffff]")  # one range: four times as fast to look for


def split_words(pattern: str, keep_gaps: bool = False) -> Callable[[str], list[str]]:
    """The function that cuts a text into its words by `pattern` (a name in PATTERNS, or a regular expression).

    What the pattern does not match is left out, as tiktoken does, or with `keep_gaps` is a word of its own, as
    `tokenizers` does; every pattern in PATTERNS matches everything.

    Raises:
        ValueError: the pattern is broken, or a name that is not in PATTERNS.
    """
    arguments.text("pattern", pattern)
    if pattern not in PATTERNS and not keep_gaps and not _MEANS_MORE.search(pattern):
        raise ValueError(
            f"pattern is not one of {', '.join(PATTERNS)}, nor a regular expression that cuts a text into words: "
            f"{arguments.shown(pattern)}"
        )
    expression = PATTERNS.get(pattern, pattern)
    if keep_gaps and pattern not in PATTERNS:
        expression = f"{expression}|(?s:(?:(?!{expression}).)+)"
    try:
        compiled = regex.compile(expression)
    except regex.error as error:
        raise ValueError(
            f"pattern is not one of {', '.join(PATTERNS)}, nor a regular expression that can be"
            f" read ({error}): {arguments.shown(pattern)}"
        ) from error

    def split(text: str) -> list[str]:
        first = _may_be_changed.search(text)
        if compiled.groups == 0 and not (first and _changed.search(text, first.start())):
            return compiled.findall(text)
        # cut a stand-in of the same length, in which every character has its class of edition 16
        stand_in = _changed.sub(_in_edition_16, text)
        return [text[word.start() : word.end()] for word in compiled.finditer(stand_in)]

    return split


def _in_edition_16(match: re.Match) -> str:
    return _SMALL_LETTER if match.group() == _PHARYNGEAL else _ALWAYS_UNASSIGNED
