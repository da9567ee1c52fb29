"""Training byte-pair encoding: count the pairs of neighbours, merge the most frequent one, repeat.

Sennrich, Haddow and Birch 2016 (arXiv 1508.07909), algorithm 1, on bytes. Recounting the whole text for each merge is
the idea, and far too slow. Three observations make it fast, and change nothing in what comes out:

1. A text repeats its words. Count each word once, and let every pair in it weigh as much as the word occurs.
2. A merge changes only the words that hold the pair. So remember for each pair where it occurs, and after a merge
   recount those words alone.
3. The most frequent pair should not be searched for among all. A heap has it on top. Its entries go out of date when
   counts change; rather than mend them, look at an entry again when it comes up ("lazy").

And one trick of Python: a word is a str with one character for each token, chr(token id). Then a merge is one
`str.replace`, which runs in C, from left to right.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from heapq import heapify, heappop, heappush, heapreplace

from course_lib.arguments import Whole, instance, refused, several, shown, truth, whole
from course_lib.input_processing.bpe import bytes_to_unicode
from course_lib.input_processing.patterns import split_words

# Bytes are numbered as GPT-2 does, by the characters that stand for them: ! is token 0, the space token 220.
BYTES_BY_ID = [bytes([value]) for value, _ in sorted(bytes_to_unicode().items(), key=lambda entry: entry[1])]
MOST_TOKENS = 0x110000  # as many characters as there are in Python


def train_bpe(
    text: str | Iterable[str],
    vocab_size: Whole,
    pattern: str = "gpt2",
    special_tokens: Collection[str] = (),
    progress: bool = False,
) -> list[tuple[bytes, bytes]]:
    """The merges that byte-pair encoding learns from `text`, in order: (left, right) of each.

    Each round merges the pair of neighbouring tokens that occurs most often. Of equally frequent ones, the one whose
    left token is older, then the one whose right token is older; the bytes count as oldest, in the order of
    BYTES_BY_ID. It ends at `vocab_size` tokens, or earlier, when every word is a single token.

    Where a pair overlaps itself, every pair of neighbours counts, and merging goes from left to right: in `aaaaa`,
    (a, a) occurs four times and becomes aa·aa·a. `tokenizers` (its BpeTrainer with ByteLevel) follows the same rules.

    Args:
        text: the corpus, or its documents one by one; no word reaches across two documents.
        vocab_size: 256 byte tokens + merges + special tokens.
        pattern: what cuts the text into words (a name in PATTERNS, or a regular expression); no merge crosses a cut.
        special_tokens: they count as tokens, and where they stand in the text they are no part of any word.
        progress: show a bar.

    Raises:
        TypeError: text or special_tokens is of another kind.
        ValueError: vocab_size is too small or too large, a special token is empty, or the text holds a lone surrogate.
    """
    from tqdm.auto import tqdm

    special_tokens, progress = _checked(special_tokens), truth("progress", progress)
    n_merges = _n_merges(vocab_size, special_tokens)
    counted = count_words(text, pattern, special_tokens)
    words, counts = _as_token_strings(counted), list(counted.values())

    pair_counts: dict[str, int] = defaultdict(int)
    words_with: dict[str, set[int]] = defaultdict(set)  # pair → the words that hold it; some may hold it no longer
    for i, word in enumerate(words):
        for pair in map(str.__add__, word, word[1:]):
            pair_counts[pair] += counts[i]
            words_with[pair].add(i)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapify(heap)

    tokens, merges = list(BYTES_BY_ID), []
    with tqdm(total=n_merges, unit=" merges", disable=not progress) as bar:
        while len(merges) < n_merges and (pair := _most_frequent(heap, pair_counts)):
            left, right = (tokens[ord(token)] for token in pair)
            merged = chr(len(tokens))
            tokens.append(left + right)
            merges.append((left, right))
            new_pairs = set()
            for i in words_with.pop(pair):
                before = words[i]
                words[i] = after = before.replace(pair, merged)
                if after == before:
                    continue
                for lost in map(str.__add__, before, before[1:]):
                    pair_counts[lost] -= counts[i]
                for found in map(str.__add__, after, after[1:]):
                    pair_counts[found] += counts[i]
                    if merged in found:
                        words_with[found].add(i)
                        new_pairs.add(found)
            for new in new_pairs:
                heappush(heap, (-pair_counts[new], new))
            bar.update()
    return merges


def _most_frequent(heap: list[tuple[int, str]], pair_counts: dict[str, int]) -> str:
    """Take the most frequent pair off the heap, "" where none is left. Counts only fall once a pair is in the heap."""
    while heap:
        count, pair = heap[0]
        if (now := -pair_counts[pair]) == count:
            heappop(heap)
            return pair
        if now:
            heapreplace(heap, (now, pair))
        else:
            heappop(heap)
    return ""


def count_words(text: str | Iterable[str], pattern: str = "gpt2", special_tokens: Collection[str] = ()) -> Counter[str]:
    """How often each word occurs in the text (or the documents), by first occurrence; special tokens are left out."""
    if isinstance(text, bytes | bytearray | memoryview):
        raise TypeError("text must be a str or several of them, got bytes: read the file as text, encoding='utf-8'")
    if not isinstance(text, Iterable) or isinstance(text, Mapping) or getattr(text, "ndim", 1) == 0:
        raise refused("text", "a str or several of them", text)
    split, special_tokens = split_words(pattern), _checked(special_tokens)
    special = "|".join(map(re.escape, sorted(special_tokens, key=len, reverse=True)))
    counts: Counter[str] = Counter()
    for document in [text] if isinstance(text, str) else text:
        if not isinstance(document, str):
            raise TypeError(f"text must be a str or several of them, got {type(document).__name__}: {shown(document)}")
        for part in re.split(special, document) if special else [document]:
            counts.update(split(part))
    return counts


def _as_token_strings(words: Iterable[str]) -> list[str]:
    """Each word as a str with one character for each byte: chr(its token id)."""
    ids = bytes(BYTES_BY_ID.index(bytes([value])) for value in range(256))  # byte → id, and there are 256 of both
    try:
        return [word.encode().translate(ids).decode("latin-1") for word in words]
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text holds a lone surrogate, U+{ord(error.object[error.start]):04X}, in {error.object!r:.40}: half a "
            "character, which has no bytes in UTF-8. Read the text again with its right encoding"
        ) from None


def _checked(special_tokens: Collection[str]) -> list[str]:
    if isinstance(special_tokens, str):
        raise TypeError(
            f"special_tokens must be a list of texts, got the text {shown(special_tokens)}: put it in brackets"
        )
    tokens = several("special_tokens", special_tokens, "a list of texts", unordered=True)
    tokens = [instance("each of special_tokens", token, str) for token in tokens]
    if "" in tokens or len(set(tokens)) < len(tokens):
        raise ValueError(f"special_tokens must differ, and none may be empty, got {shown(tokens)}")
    return tokens


def _n_merges(vocab_size: Whole, special_tokens: Collection[str]) -> int:
    try:
        vocab_size = whole("vocab_size", vocab_size)
    except ValueError as error:
        raise TypeError(str(error)) from None
    n_merges = vocab_size - len(BYTES_BY_ID) - len(special_tokens)
    if n_merges < 0 or vocab_size > MOST_TOKENS:
        reason = f"256 byte tokens and {len(special_tokens)} special tokens are always in the vocabulary"
        raise ValueError(
            f"vocab_size must be from {256 + len(special_tokens)} to {MOST_TOKENS:,}, got {vocab_size}: {reason}"
        )
    return n_merges
