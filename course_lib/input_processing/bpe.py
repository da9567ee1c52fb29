"""Byte-pair encoding of one word: start from its bytes, merge the best pair of neighbours, repeat.

Sennrich, Haddow and Birch 2016 (arXiv 1508.07909) for the merges; the GPT-2 paper, section 2.2, for bytes in
place of characters: any text can be written with 256 byte tokens, so nothing is ever "unknown".

Which pair is best? Two rules are in use, and they are not the same:

- `listed_merges`: GPT-2, Hugging Face `tokenizers`, GGUF files. Training kept the list of pairs it merged.
  A pair may merge only if it is in that list; the earliest entry goes first.
- `any_two_that_make_a_token`: tiktoken. There is no list of pairs, only the tokens. Any two neighbours may
  merge if together they are a token; the lowest token id goes first. A word that is a token is taken at once.

They agree on nearly every word, because a token's id tells when training made it. They differ where a token can be
put together in a way that training never used. A rule here is a function `rank(left, right)`: when this pair's
turn comes (the lowest goes first, the leftmost among equals), or NEVER.
"""

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush

NEVER = float("inf")
Rank = Callable[[bytes, bytes], float]

SINGLE_BYTES = [bytes([value]) for value in range(256)]
LONG_WORD = 200  # bytes: about where the heap begins to win over the scan


def listed_merges(merges: Iterable[tuple[bytes, bytes]]) -> Rank:
    """The rule of `tokenizers`: the place of (left, right) in `merges`, the order that training found."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    return lambda left, right: ranks.get((left, right), NEVER)


def any_two_that_make_a_token(token_ids: dict[bytes, int]) -> Rank:
    """The rule of tiktoken: the id of the token that left and right make together."""
    return lambda left, right: token_ids.get(left + right, NEVER)


def merge_by_scan(parts: list[bytes], rank: Rank) -> list[bytes]:
    """Merge the lowest-ranked neighbours until none may merge. n² steps for n parts: right for words."""
    parts = list(parts)
    ranks = list(map(rank, parts, parts[1:]))  # ranks[i]: of parts[i] and parts[i + 1]
    while ranks and (lowest := min(ranks)) < NEVER:
        i = ranks.index(lowest)
        parts[i] += parts.pop(i + 1)
        del ranks[i]
        if i > 0:
            ranks[i - 1] = rank(parts[i - 1], parts[i])
        if i < len(ranks):
            ranks[i] = rank(parts[i], parts[i + 1])
    return parts


def merge_by_heap(parts: list[bytes], rank: Rank) -> list[bytes]:
    """The same result in n log n steps, for long words (a page of Chinese has no space to cut at).

    Merged parts stay where the left one was; `after` and `before` link those still there. A pair in the heap may
    be out of date by its turn: then its rank is no longer the rank of what now stands there, and it is passed over.
    """
    parts = list(parts)
    end = len(parts)
    after = list(range(1, end + 1))
    before = list(range(-1, end - 1))
    ranks = map(rank, parts, parts[1:])
    heap = [(pair_rank, i) for i, pair_rank in enumerate(ranks) if pair_rank < NEVER]
    heapify(heap)
    while heap:
        pair_rank, i = heappop(heap)
        j = after[i]
        if j == end or not parts[i] or rank(parts[i], parts[j]) != pair_rank:
            continue
        parts[i] += parts[j]
        parts[j] = b""
        after[i] = after[j]
        if after[i] < end:
            before[after[i]] = i
        for left in (before[i], i):
            if left >= 0 and after[left] < end:
                new_rank = rank(parts[left], parts[after[left]])
                if new_rank < NEVER:
                    heappush(heap, (new_rank, left))
    return [part for part in parts if part]


def encode_word(
    word: bytes, token_ids: dict[bytes, int], rank: Rank, whole_word_first: bool = False
) -> tuple[int, ...]:
    """The token ids of one word; `whole_word_first`: a word that is a token is taken at once.

    A byte for which the vocabulary has no token is left out, and its neighbours may merge across the gap: that is
    what `tokenizers` does with a vocabulary that has no "unknown" token (SmolLM2 lacks 21 of the 256).
    """
    if whole_word_first and word in token_ids:
        return (token_ids[word],)
    parts = [byte for value in word if (byte := SINGLE_BYTES[value]) in token_ids]
    merge = merge_by_scan if len(parts) <= LONG_WORD else merge_by_heap
    return tuple([token_ids[part] for part in merge(parts, rank)])


def bytes_to_unicode() -> dict[int, str]:
    """GPT-2's alphabet: one printable character for each of the 256 bytes, so that tokens can be kept as text.

    A byte that prints as itself in Latin-1 stands for itself; the others (controls, space, no-break space, soft
    hyphen) get the characters from U+0100 on, in order: space becomes Ġ, line feed Ċ.
    """
    prints = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [value for value in range(256) if value not in prints]
    return {value: chr(value if value in prints else 0x100 + others.index(value)) for value in range(256)}


class WordCache(dict):
    """word → its token ids, worked out at the first look-up. Texts repeat their words: nearly all are found."""

    def __init__(self, encode: Callable[[str], tuple[int, ...]], max_words: int = 100_000):
        self.encode = encode
        self.max_words = max_words

    def __missing__(self, word: str) -> tuple[int, ...]:
        ids = self.encode(word)
        if len(word) <= LONG_WORD:
            if len(self) >= self.max_words:
                self.clear()  # dearer book-keeping (which word is oldest) would cost every look-up
            self[word] = ids
        return ids
