"""Homework 1, learning merges: words as bytes, the best pair, the list of merges."""

import functools
import string
from collections import Counter
from itertools import pairwise

from course_lib import assets
from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.input_processing.bpe_training import BYTES_BY_ID, train_bpe
from course_lib.input_processing.patterns import split_words
from course_lib.lessons.tools import counted, draw, shuffled, some

BASE_IDS = {token: id for id, token in enumerate(BYTES_BY_ID)}


@functools.cache
def plays():
    return "".join(path.read_text("utf-8") for path in assets.paths("shakespeare")[:4])


def passage(random, length):
    """A piece of Shakespeare that begins and ends with a whole word."""
    piece = ""
    while piece.count(" ") < 2:  # a list of short lines has hardly a space
        start = draw(random, 0, len(plays()) - 2 * length)
        piece = plays()[start : start + length]
    return piece.split(" ", 1)[1].rsplit(" ", 1)[0]


# ---- words as bytes ------------------------------------------------------------------------------


WORDS = ["the", " the", " dog", "Dog", " ran", " up", " hill", "!", "\n\n", " 2", "'s", " a"]


FOREIGN = [" café", "犬", " 🐕", "é", " naïve", "丘"]


def byte_words(words):
    return dict(Counter(tuple(bytes([value]) for value in word.encode()) for word in words))


def each_word(count, random):
    """each word as a tuple of bytes, with how often it occurs"""
    count.compare([["a"], [" a", "a"], *(some(random, WORDS, size) for size in (3, 6, 12, 40))])


def foreign(count, random):
    """a character outside of English is two, three or four tokens"""
    count.compare([["é"], ["犬"], *(some(random, WORDS[:4] + FOREIGN, size) for size in (3, 8, 30))])


def kept_as(key):
    return lambda words: dict(Counter(key(word) for word in words))


BYTE_WORDS = Exercise(
    name="byte_words",
    lesson="hw1",
    title="words as bytes, counted",
    oracle=byte_words,
    may_call=("patterns",),
    checks={"words": (each_word, foreign)},
    mistakes={
        "its tokens are characters; they have to be bytes: b'T', not 'T'": kept_as(tuple),
        "its tokens are numbers; they have to be bytes of length 1: b'T', not 84": kept_as(lambda w: tuple(w.encode())),
        "a character stays whole, and é is two bytes: encode the word first, then take it apart": kept_as(
            lambda word: tuple(character.encode() for character in word)
        ),
        "the words are not taken apart: a key is a tuple of single bytes": kept_as(str.encode),
        "a word's leading space is lost: b' ' is a byte like any other": lambda words: byte_words(
            map(str.strip, words)
        ),
        "it makes capitals small: b'D' and b'd' are different bytes": lambda words: byte_words(map(str.lower, words)),
        "a word that comes again is not counted again": lambda words: dict.fromkeys(byte_words(words), 1),
        "it counts single bytes; whole words are asked for": lambda words: dict(
            Counter((bytes([value]),) for word in words for value in word.encode())
        ),
    },
    hints=(
        "Three steps for each word: its UTF-8 bytes, a tuple of them one by one, and 1 more for that tuple in a dict.",
        '`"犬".encode()` is three bytes. A loop over bytes gives numbers, and numbers are not asked for.',
        'Back from a number to a byte: `bytes([84])` is b"T". A key that is new in the dict starts at 0.',
    ),
)


# ---- the best pair -------------------------------------------------------------------------------


def pair_counts(words, weigh=True, pairs=pairwise):
    counts = Counter()
    for word, count in words.items():
        for pair in pairs(word):
            counts[pair] += count if weigh else 1
    return counts


def choose(counts, key):
    return min(counts, key=key, default=None)


def best_pair(words, ids):
    counts = pair_counts(words)
    return choose(counts, lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]))


def counted_by(count):
    """One who counts otherwise, and chooses rightly."""

    def answer(words, ids):
        counts = count(words)
        return choose(counts, lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]))

    return answer


def tied_by(key):
    """One who counts rightly, and chooses otherwise among the most frequent."""

    def answer(words, ids):
        counts = pair_counts(words)
        order = {pair: place for place, pair in enumerate(counts)}
        return choose(counts, lambda pair: (-counts[pair], *key(pair, ids, order)))

    return answer


def without_overlaps(word):
    place = 0
    while place + 1 < len(word):
        yield word[place], word[place + 1]
        place += 2 if word[place] == word[place + 1] else 1


def across_words(words):
    text = [token for word in words for token in word * words[word]]
    return Counter(pairwise(text))


def vocabulary(random, size):
    """Tokens of one to three letters, with ids in no order that a text would tell."""
    letters = shuffled(random, [letter.encode() for letter in string.ascii_lowercase])[: size // 2]
    tokens = letters + [letters[i] + some(random, letters, 1)[0] for i in range(len(letters))]
    return dict(zip(shuffled(random, list(dict.fromkeys(tokens))), range(100), strict=False))


def corpora(random, tied, number=24):
    """Words and ids; at the top there is one pair alone, or a tie of three pairs or more.

    No token comes twice in a word: pairs that overlap, and pairs that come again, have checks of their own.
    """
    sizes = ((4, 2, 3), (4, 3, 3), (6, 4, 3), (10, 12, 6))
    found = []
    while len(found) < number:
        tokens, n_words, longest = sizes[len(found) * len(sizes) // number]
        ids = vocabulary(random, tokens)
        words = {
            tuple(shuffled(random, list(ids))[: draw(random, 1, longest)]): 1 if tied else draw(random, 1, 9)
            for _ in range(n_words)
        }
        counts = pair_counts(words)
        at_the_top = list(counts.values()).count(max(counts.values(), default=0))
        if at_the_top > 2 if tied else at_the_top == 1:
            found.append((words, ids))
    return found


def most_frequent(best, random):
    """the most frequent pair, each word weighing as much as it occurs"""
    ids = vocabulary(random, 6)
    one, two, three, *_ = ids
    # 6 against 5, and 3 against 5 for one who sees a pair once a word
    best.compare([({(one, two, one, two): 3, (two, three): 5}, ids), *corpora(random, tied=False)])


def repeats(best, random):
    """also where a pair overlaps itself, as in aaa"""
    inputs = []
    for _ in range(12):
        ids = vocabulary(random, 6)
        one, two, three = list(ids)[:3]
        # the pair (one, one) occurs twice in each of the first words: 6 against 5, and once it is 3 against 5
        words = {(one,) * 3: 3, (two, three): 5, (three,): draw(random, 1, 9)}
        inputs.append((words, ids))
    best.compare(inputs)


def no_pair(best, random):
    """None where every word is a single token"""
    ids = vocabulary(random, 6)
    best.compare([({}, ids), ({(token,): 3 for token in list(ids)[:3]}, ids), ({(): 2}, ids)])


def equally_frequent(best, random):
    """of equally frequent pairs, the one whose left token is oldest, then whose right token is"""
    old, two, three = shuffled(random, [b"a", b"b", b"c"])
    left_alike = {(old, three): 1, (old, two): 1, (three, two): 1}, {three: 7, two: 5, old: 2}
    with_0 = [({(two, three): 1, (three, two): 1}, {two: first, three: 7 - first, old: 3}) for first in (0, 7)]
    best.compare([left_alike, *corpora(random, tied=True, number=40), *with_0])


BEST_PAIR = Exercise(
    name="best_pair",
    lesson="hw1",
    title="the most frequent pair, and of equals the oldest",
    oracle=best_pair,
    may_call=("patterns",),
    checks={"counts": (most_frequent, repeats, no_pair), "ties": (equally_frequent,)},
    mistakes={
        "it counts each word once: a word weighs as much as it occurs": counted_by(
            lambda words: pair_counts(words, weigh=False)
        ),
        "a pair that overlaps itself is counted once too few: in aaa, (a, a) occurs twice": counted_by(
            lambda words: pair_counts(words, pairs=without_overlaps)
        ),
        "a pair that comes twice in a word is counted once: each place counts": counted_by(
            lambda words: pair_counts(words, pairs=lambda word: dict.fromkeys(pairwise(word)))
        ),
        "it sees pairs across two words: a pair stands inside one word": counted_by(across_words),
        "it gives the merged token; the pair of both, a tuple, is asked for": lambda words, ids: b"".join(
            best_pair(words, ids) or ()
        ),
        "it gives the ids; the two tokens themselves are asked for": lambda words, ids: tuple(
            ids[token] for token in best_pair(words, ids) or ()
        ),
        "of equals it takes the one that it met first: look at the ids": tied_by(lambda pair, ids, order: ()),
        "of equals it takes the one that it met last: look at the ids": tied_by(
            lambda pair, ids, order: (-order[pair],)
        ),
        "of equals it takes the first in the alphabet: a token's age is its id": tied_by(lambda pair, ids, order: pair),
        "of equals it takes the youngest: the lowest id is the oldest": tied_by(
            lambda pair, ids, order: (-ids[pair[0]], -ids[pair[1]])
        ),
        "it compares the right tokens first: the left one's age counts more": tied_by(
            lambda pair, ids, order: (ids[pair[1]], ids[pair[0]])
        ),
        "where the left tokens are the same, it forgets to compare the right ones": tied_by(
            lambda pair, ids, order: (ids[pair[0]], order[pair])
        ),
    },
    hints=(
        "Two steps: count every pair of neighbours in every word, then choose. Count in a dict: pair → number.",
        "`zip(word, word[1:])` gives the neighbours of a word. Add the word's count for each of them, not 1.",
        "Tuples are compared from left to right: (−4, 64, 64) is less than (−4, 220, 66). So give each pair a tuple by "
        "which the pair that goes first is the smallest, and let `min` find it. What is `min` of nothing?",
    ),
)


# ---- learning merges -----------------------------------------------------------------------------


def merged(word, pair):
    """The word with the pair made one token wherever it stands, from left to right."""
    parts, place = [], 0
    while place < len(word):
        if word[place : place + 2] == pair:
            parts.append(word[place] + word[place + 1])
            place += 2
        else:
            parts.append(word[place])
            place += 1
    return tuple(parts)


def merged_once(word, pair):
    place = next((i for i in range(len(word)) if word[i : i + 2] == pair), len(word))
    return word[:place] + (b"".join(pair),) * (place < len(word)) + word[place + 2 :]


def merged_from_the_right(word, pair):
    turned = tuple(token[::-1] for token in word[::-1])
    done = merged(turned, tuple(token[::-1] for token in pair[::-1]))
    return tuple(token[::-1] for token in done[::-1])


def learn(words, ids, n_merges, choose, merge=merged, weigh=True, new_id=lambda ids, merges: len(ids)):
    words, ids, merges = dict(words), dict(ids), []
    while len(merges) < n_merges and (pair := choose(words, ids)):
        merges.append(pair)
        ids[b"".join(pair)] = new_id(ids, merges)
        words = {merge(word, pair): count if weigh else 1 for word, count in words.items()}
    return merges


def learn_merges(words, ids, n_merges, choose):
    return learn(words, ids, n_merges, choose)


def learning(by=None, **otherwise):
    return lambda words, ids, n_merges, choose: learn(words, ids, n_merges, by or choose, **otherwise)


def without_recounting(words, ids, n_merges, choose):
    counts = pair_counts(words)
    return sorted(counts, key=lambda pair: (-counts[pair], *map(ids.get, pair)))[:n_merges]


def too_many(words, ids, n_merges, choose):
    found = learn(words, ids, n_merges, choose)
    return found + [None] * (n_merges - len(found))


def right_pair(words, ids):
    return best_pair(words, ids)


def youngest_pair(words, ids):
    """The pair whose left token is youngest, then whose right token is; how often it occurs counts for nothing."""
    pairs = {pair for word in words for pair in pairwise(word)}
    return max(pairs, key=lambda pair: (ids[pair[0]], ids[pair[1]]), default=None)


IGNORES_CHOOSE = "it does not call `choose`: the pair to merge is the one that `choose(words, ids)` gives"


OWN_RULE = "it merges the most frequent pair, whatever `choose` gives: here `choose` goes by another rule"


def small_corpora(random, letters, number=12, choose=right_pair):
    """Few words; no two merges make the same token."""
    size = 0
    while size < number:
        alphabet = shuffled(random, [letter.encode() for letter in letters])
        words = {}
        for _ in range(2 + size // 2):
            words[tuple(some(random, alphabet, draw(random, 2, 3 + size // 3)))] = draw(random, 1, 9)
        ids, n_merges = {token: id for id, token in enumerate(alphabet)}, 2 + size // 2
        if makes_new_tokens(learn(words, ids, 60, choose)):
            yield words, ids, n_merges, choose
            size += 1


def makes_new_tokens(merges):
    return len({left + right for left, right in merges}) == len(merges)


def compare_choosing(learned, inputs, rule):
    """As `compare`; and where no mistake explains the answers, is the rule asked at all?"""
    watched, asked = counted(rule)
    learned.answer({(b"a", b"b"): 2}, {b"a": 0, b"b": 1}, 2, watched)
    ignores = not asked
    try:
        learned.compare(inputs, {OWN_RULE: learning(by=right_pair)} if rule is not right_pair else {})
    except Wrong as wrong:
        if ignores and wrong.sentence == "it gives another value than it should":
            raise Wrong(IGNORES_CHOOSE, wrong.shown) from None
        raise


def few_words(learned, random):
    """the merges of a few words, in order"""
    a, b, c, d, e = shuffled(random, [b"a", b"b", b"c", b"d", b"e"])
    # in the third round (ab, e) and (cd, e) are equals, and ab is older than cd
    tie = {(c, d, e): 2, (a, b, e): 2}, {token: id for id, token in enumerate((a, b, c, d, e))}, 3, right_pair
    compare_choosing(learned, [*small_corpora(random, "abcdefgh"), tie], right_pair)


def same_letters(learned, random):
    """also where a pair overlaps itself: merging goes from left to right"""
    compare_choosing(learned, small_corpora(random, "ab"), right_pair)


def nothing_left(learned, random):
    """it ends early where every word has become one token"""
    inputs = [({(b"a",): 2}, {b"a": 0}, 3, right_pair), ({(b"a", b"b"): 2}, {b"a": 0, b"b": 1}, 3, right_pair)]
    inputs += [(*given[:2], 60, right_pair) for given in small_corpora(random, "abc", 4)]
    inputs += [({(b"a", b"b"): 2}, {b"a": 0, b"b": 1}, 0, right_pair), ({}, {b"a": 0}, 3, right_pair)]
    compare_choosing(learned, inputs, right_pair)


def another_rule(learned, random):
    """whatever rule `choose` goes by: here, the youngest pair"""
    compare_choosing(learned, small_corpora(random, "abcdefgh", choose=youngest_pair), youngest_pair)
    others = {bytes([a, b]): 10 + 16 * a + b for a in range(16) for b in range(16)}  # tokens that no word has
    inputs = [
        (words, {**ids, **others}, *rest) for words, ids, *rest in small_corpora(random, "abcd", 3, youngest_pair)
    ]
    compare_choosing(
        learned,
        [(words, dict(zip(ids, range(len(ids)), strict=True)), *rest) for words, ids, *rest in inputs],
        youngest_pair,
    )
    watched, asked = counted(youngest_pair)
    learned.answer({(b"a", b"b", b"c"): 2}, {b"a": 0, b"b": 1, b"c": 2}, 2, watched)
    if len(asked) > 3:
        raise Wrong("it asks `choose` more often than once a round", f"for 2 merges it asked {len(asked)} times")


def like_the_library(learned, random):
    """on a page of Shakespeare: the library's merges, all 100 of them"""
    while not makes_new_tokens(theirs := train_bpe(text := passage(random, 4_000), 256 + 100)):
        pass
    ours = learned.answer(byte_words(split_words("gpt2")(text)), BASE_IDS, 100, right_pair)
    if not isinstance(ours, list):
        raise Wrong(f"it returns an object of type {type(ours).__name__}, and a list is asked for")
    for number, (mine, right) in enumerate(zip([*ours, *[None] * 100], theirs, strict=False), 1):
        if mine != right:
            raise Wrong(
                f"merge {number} of a page of Shakespeare is not the library's", f"it is {mine}; right is {right}"
            )
    if len(ours) != 100:
        raise Wrong(f"of a page of Shakespeare it makes {len(ours)} merges, and 100 are asked for")


LEARN_MERGES = Exercise(
    name="learn_merges",
    lesson="hw1",
    title="the merges of a text",
    oracle=learn_merges,
    may_call=("patterns",),
    checks={"merges": (few_words, same_letters, nothing_left, another_rule, like_the_library)},
    mistakes={
        "it chooses the same pair again and again: after a choice, merge it in every word": learning(
            merge=lambda word, pair: word
        ),
        "it merges the first place of a word only: a pair may stand there twice": learning(merge=merged_once),
        "it merges from right to left: aaa becomes aa·a, not a·aa": learning(merge=merged_from_the_right),
        "after a merge each word counts once: take its count along": learning(weigh=False),
        "a new token's id must be larger than all before it: the number of tokens so far, not of merges": learning(
            new_id=lambda ids, merges: len(merges)
        ),
        "all new tokens get the same id: each one gets the next": learning(
            new_id=lambda ids, merges: len(ids) - len(merges) + 1
        ),
        "new tokens count as older than the first ones: ids go on where they are, upwards": learning(
            new_id=lambda ids, merges: -len(merges)
        ),
        "where no pair is left, it goes on and adds None": too_many,
        "it makes one merge too few": lambda words, ids, n, choose: learn(words, ids, n - 1, choose),
        "it makes one merge too many": lambda words, ids, n, choose: learn(words, ids, n + 1, choose),
        "it gives the merged tokens; the pairs are asked for": lambda words, ids, n, choose: [
            b"".join(pair) for pair in learn(words, ids, n, choose)
        ],
        "it takes the n most frequent pairs at the start: after each merge the pairs are others": without_recounting,
    },
    hints=(
        "A loop of at most `n_merges` rounds: choose a pair, note it, give the new token an id, rewrite every word. "
        "Work on `dict(words)` and `dict(ids)`: what was handed in must stay as it is.",
        "To rewrite a word, walk along it: where the tokens at `i` and `i + 1` are the pair, append both as one and "
        "go on at `i + 2`; else append the token and go on at `i + 1`.",
        "Let each round make a *new* dict of words, from the rewritten word to the old word's count: a dict that is "
        "changed while you walk along it goes wrong. If the ids are 0 to 7, the next one is 8, which is how many there "
        "are. And `choose` is asked in every round, with the words and ids of this round.",
    ),
)
