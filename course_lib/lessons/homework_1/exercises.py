"""Homework 1: a tokenizer of one's own, what it costs to be cut into tokens, and rotary positions."""

import functools
import re
import string
from collections import Counter
from itertools import pairwise
from math import inf, pi

import torch

from course_lib import assets
from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.input_processing.bpe import encode_word, listed_merges, merge_by_scan
from course_lib.input_processing.bpe_training import BYTES_BY_ID, train_bpe
from course_lib.input_processing.patterns import split_words
from course_lib.input_processing.positions import rotate, rotation_angles
from course_lib.input_processing.tokenizer import SpecialToken, split_at_special_tokens
from course_lib.lessons.tools import draw, shuffled, some, vectors
from course_lib.pretrained.vocabularies import NAMES, load_tokenizer

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
    best.compare([({}, ids), ({(token,): 3 for token in list(ids)[:3]}, ids)])


def equally_frequent(best, random):
    """of equally frequent pairs, the one whose left token is oldest, then whose right token is"""
    old, two, three = shuffled(random, [b"a", b"b", b"c"])
    left_alike = {(old, three): 1, (old, two): 1, (three, two): 1}, {three: 7, two: 5, old: 2}
    best.compare([left_alike, *corpora(random, tied=True, number=40)])


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
    asked = []

    def watched(words, ids):
        asked.append(rule)
        return rule(words, ids)

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
    compare_choosing(learned, inputs, right_pair)


def another_rule(learned, random):
    """whatever rule `choose` goes by: here, the youngest pair"""
    compare_choosing(learned, small_corpora(random, "abcdefgh", choose=youngest_pair), youngest_pair)


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

# ---- text → ids ----------------------------------------------------------------------------------


def encode_text(text, ids, merges, special):
    found, rank = [], listed_merges(merges)
    tokens = [SpecialToken(name, id) for name, id in special.items()]
    for piece in split_at_special_tokens(text, tokens):
        if isinstance(piece, int):
            found.append(piece)
        else:
            for word in split_words("gpt2")(piece):
                found.extend(encode_word(word.encode(), ids, rank))
    return found


def tokens_of(parts, merges):
    return merge_by_scan(parts, listed_merges(merges))


def in_rank_order(parts, ids, merges):
    return [ids[token] for token in tokens_of(parts, merges)]


def with_ids_made_up(byte_id):
    """One who numbers the merged tokens 256, 257 … instead of looking them up."""

    def of_word(parts, ids, merges):
        made = {left + right: 256 + rank for rank, (left, right) in enumerate(merges)}
        return [made[token] if token in made else byte_id(token, ids) for token in tokens_of(parts, merges)]

    return of_word


def lowest_id_first(parts, ids, merges):
    merges = sorted(merges, key=lambda pair: ids[pair[0] + pair[1]])
    return in_rank_order(parts, ids, merges)


def lowest_id_first_everywhere(parts, ids, merges):
    while here := [pair for pair in pairwise(parts) if pair in merges]:
        parts = list(merged(tuple(parts), min(here, key=lambda pair: ids[pair[0] + pair[1]])))
    return [ids[part] for part in parts]


def gpt2_words(text):
    return split_words("gpt2")(text)


def encoding(of_word=in_rank_order, split=gpt2_words):
    """One who encodes a word otherwise, or cuts words otherwise."""

    def answer(text, ids, merges, special):
        found = []
        for piece in split_at_special_tokens(text, [SpecialToken(name, id) for name, id in special.items()]):
            if isinstance(piece, int):
                found.append(piece)
                continue
            for word in split(piece):
                found += of_word([bytes([value]) for value in word.encode()], ids, merges)
        return found

    return answer


def first_that_may_merge(parts, ids, merges):
    while (at := next((i for i, pair in enumerate(pairwise(parts)) if pair in merges), None)) is not None:
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [ids[part] for part in parts]


def longest_that_fits(parts, ids, merges):
    word, found = b"".join(parts), []
    while word:
        end = next(end for end in range(len(word), 0, -1) if word[:end] in ids)
        found.append(ids[word[:end]])
        word = word[end:]
    return found


def each_merge_once(parts, ids, merges):
    for pair in merges:
        parts = list(merged_once(tuple(parts), pair))
    return [ids[part] for part in parts]


def last_merge_first(parts, ids, merges):
    rank = {pair: place for place, pair in enumerate(merges)}
    while (best := max(pairwise(parts), key=lambda pair: rank.get(pair, -1), default=None)) in rank:
        parts = list(merged_once(tuple(parts), best))
    return [ids[part] for part in parts]


def cut_by_an_unescaped_pattern(text, ids, merges, special):
    found = []
    for piece in re.split("(" + "|".join(special) + ")", text) if special else [text]:
        found += [special[piece]] if piece in special else encode_text(piece, ids, merges, {})
    return found


def piecewise(change, keep_special=True):
    """One who finds the special tokens, and does something to what is between them."""

    def answer(text, ids, merges, special):
        found = []
        names = "|".join(map(re.escape, special))
        for piece in re.split(f"({names})", text) if special else [text]:
            if piece in special:
                found += [special[piece]] * keep_special
            else:
                found += encode_text(change(piece) if special else piece, ids, merges, {})
        return found

    return answer


def with_an_empty_pattern(text, ids, merges, special):
    pieces = [text] if special else list(text)
    return [id for piece in pieces for id in encode_text(piece, ids, merges, special)]


def all_that_look_special(text, ids, merges, special):
    found = []
    for piece in re.split(r"(<\|.*?\|>)", text):
        if re.fullmatch(r"<\|.*?\|>", piece):
            found += [special[piece]] if piece in special else []
        else:
            found += encode_text(piece, ids, merges, {})
    return found


def only_the_first(text, ids, merges, special):
    places = [(text.find(name), name) for name in special if name in text]
    if not places:
        return encode_text(text, ids, merges, {})
    before, name, after = text.partition(min(places)[1])
    return [*encode_text(before, ids, merges, {}), special[name], *encode_text(after, ids, merges, {})]


def numbered(random, tokens):
    """Ids for the tokens: any numbers below 500, so that they say nothing about the order of the merges."""
    tokens = shuffled(random, list(dict.fromkeys(tokens)))
    return dict(zip(tokens, torch.randperm(500, generator=random)[: len(tokens)].tolist(), strict=True))


def given(random, text, merges, special=()):
    """The arguments of encode_text, with ids for what the text and the merges need."""
    tokens = [bytes([value]) for value in text.encode()]
    for left, right in merges:
        tokens += [left, right, left + right]
    return text, numbered(random, tokens), merges, dict(special)


@functools.cache
def merges_of_a_play():
    return train_bpe(plays()[50_000:65_000], 256 + 100)


def merges_of_letters(random, number):
    """Merges of drawn words; no two make the same token: then one place at a time and all places at once agree."""
    letters = [letter.encode() for letter in "abcd"]
    merges = []
    while len(merges) < number or not makes_new_tokens(merges):
        words = {tuple(some(random, letters, draw(random, 2, 7))): draw(random, 1, 9) for _ in range(30)}
        merges = learn(words, dict(zip(letters, range(4), strict=True)), number, best_pair)
    return merges


def short_words(encode, random):
    """a few letters, with a few merges in rank order"""
    a, b, c = shuffled(random, [b"a", b"b", b"c", b"d"])[:3]
    abc, e_acute = (a + b + c).decode(), (b"\xc3", b"\xa9")
    inputs = [given(random, *one) for one in (("", []), (a.decode(), []), (" a  b", []), ("é", [e_acute]))]
    # ab, abc: two pairs are there, and the second was learned first; its token has the higher id once, once the lower
    for high, low in ((a + b, b + c), (b + c, a + b)):
        letters = {a: 7, b: 5, c: 300}
        inputs.append((abc, {**letters, high: 410, low: 70}, [(b, c), (a, b)], {}))
    # where the first pair from the left and the longest token from the left part: a·bc and abc are right here
    inputs.append(given(random, abc, [(b, c), (a, b + c), (a, b)]))
    inputs.append(given(random, abc, [(a, b), (b, c)]))  # and here the last one that was learned and the first
    for n_merges in (3, 5, 12):
        merges = merges_of_letters(random, n_merges)
        words = ["".join(some(random, "abcd", size)) for size in (2, 3, 4, 6, 10, 16, 24)]
        inputs += [given(random, word, merges) for word in [*words, " ".join(words)]]
    encode.compare(inputs)


def sentences(encode, random):
    """sentences of Shakespeare, 100 merges, and other scripts too"""
    [letter] = some(random, "abcefghijk", 1)
    # the pattern cuts 't off, so here letters that merge stand in two words; and white space is no gap
    small = [("é", []), (f"{letter} t", []), (f"'t{letter}", [(b"t", letter.encode())])]
    texts = [passage(random, size) for size in (40, 120)] + ["".join(some(random, WORDS + FOREIGN, 20))]
    large = [(text, merges_of_a_play()) for text in texts]
    encode.compare([given(random, *one) for one in small + large])


NAMES_OF_SPECIAL = ["<|end|>", "<|user|>", "<|model|>", "[INST]"]


def chats(random, merges, number=6):
    for size in range(number):
        names = shuffled(random, NAMES_OF_SPECIAL)[: 1 + size % 3]
        special = {name: 500 + draw(random, 0, 50) + 100 * i for i, name in enumerate(names)}
        text = " a"
        for name in [names[0], *some(random, names, 1 + size // 2)]:
            text += name + "".join(some(random, WORDS[-3:] if size < 2 else WORDS, 1 + size // 4))
        yield given(random, text + names[-1], merges, special)


def compare_special(encode, random, inputs):
    """Without merges, so that special tokens alone count; what is wrong is looked at again where `<|` is a token."""
    try:
        encode.compare(inputs(random, []))
    except Wrong:  # a name that is cut at its | shows only where something could have merged across the cut
        encode.compare(inputs(random, [(b"<", b"|")]))
        raise


def honoured(encode, random):
    """a special token is one id, and what stands beside it is encoded as ever"""

    def inputs(random, merges):
        alone = [given(random, name, merges, {name: 700}) for name in ("<|end|>", "[INST]")]
        return [*alone, *chats(random, merges)]

    compare_special(encode, random, inputs)


def not_honoured(encode, random):
    """a special token that is not in `special` is text like any other"""

    def inputs(random, merges):
        first = given(random, "<|end|>", merges)
        found = [(*one[:3], special) for special in ({}, {"<|end|>": 700}) for one in chats(random, merges, 3)]
        return [first, *found]

    compare_special(encode, random, inputs)


ENCODE_TEXT = Exercise(
    name="encode_text",
    lesson="hw1",
    title="text to ids, special tokens where they are wanted",
    oracle=encode_text,
    may_call=("patterns",),
    checks={"merges": (short_words, sentences), "special": (honoured, not_honoured)},
    mistakes={
        "it merges nothing: every byte stays a token of its own": encoding(
            lambda parts, ids, merges: [ids[part] for part in parts]
        ),
        "with `special = {}` its pattern is empty, and cuts between all characters: then the text is one piece": (
            with_an_empty_pattern
        ),
        "it takes the id for the rank: the place in the list of merges says when a pair was learned": encoding(
            lowest_id_first
        ),
        "it takes the id for the rank, at all places of a pair at once: the place in the list of merges is the rank": (
            encoding(lowest_id_first_everywhere)
        ),
        "it numbers the merged tokens 256, 257 …: the id of a token stands in `ids`": encoding(
            with_ids_made_up(lambda token, ids: ids[token])
        ),
        "it does not look into `ids`: GPT-2's numbers of the bytes are not everybody's": encoding(
            with_ids_made_up(lambda token, ids: BASE_IDS[token])
        ),
        "it takes a byte's value for its id: the id of every token stands in `ids`": encoding(
            with_ids_made_up(lambda token, ids: token[0])
        ),
        "it merges the first pair that may merge: the one that was learned first goes first": encoding(
            first_that_may_merge
        ),
        "it takes the longest token that fits, from the left: merges go in the order they were learned in": encoding(
            longest_that_fits
        ),
        "each merge is done at one place of a word only: the same pair may stand there again": encoding(
            each_merge_once
        ),
        "it merges the pair that was learned last: the lowest rank goes first": encoding(last_merge_first),
        "it merges across words: cut the text with split_words first": encoding(split=lambda text: [text]),
        "the white space is lost: split_words keeps it, str.split() does not": encoding(split=str.split),
        "it takes special tokens for ordinary text": lambda text, ids, merges, special: encode_text(
            text, ids, merges, {}
        ),
        "its pattern reads | and [ as commands: re.escape(name) makes them plain": cut_by_an_unescaped_pattern,
        "the special tokens are cut out and lost: each has an id in `special`": piecewise(str, keep_special=False),
        "white space beside a special token is lost": piecewise(str.strip),
        "only the first special token is found": only_the_first,
        "it takes anything in <|…|> for a special token: only those in `special` count": all_that_look_special,
    },
    hints=(
        "From the outside in: special tokens cut the text into pieces, split_words cuts a piece into words, and "
        "each word is bytes that merge. Write the merging of one word first, as in lesson 01.",
        "`re.split` with a pattern in round brackets gives back what it cut at, too: `re.split('(x|yz)', 'ayzb')` is "
        "`['a', 'yz', 'b']`. `re.escape` makes | and [ plain characters. Where `special` is empty there is nothing to "
        "cut.",
        "One word: make a dict from each pair to its place in `merges`, which is its rank. Look at all pairs of "
        "neighbours, and join the one of lowest rank where it first stands; then look again, for there are new pairs. "
        "It ends when none of them has a rank. What the parts are called in `ids` is asked at the very end.",
    ),
)

# ---- ids → text ----------------------------------------------------------------------------------


def decode_ids(ids, tokens):
    return b"".join(tokens[id] for id in ids).decode("utf-8", errors="replace")


def one_by_one(ids, tokens):
    return "".join(tokens[id].decode("utf-8", errors="replace") for id in ids)


TOKENS = {id: token for token, id in BASE_IDS.items()} | {
    256: b" dog",
    257: b" ran",
    258: b"<|end|>",
    259: " 犬".encode(),
}
ID_OF = {token: id for id, token in TOKENS.items()}


def as_ids(text):
    return [ID_OF[bytes([value])] for value in text.encode()]


def whole_texts(decode, random):
    """whole texts, in any script"""
    inputs = [[], [256], [256, 257], as_ids("é"), as_ids("犬")]
    for size in (1, 2, 4, 8):
        inputs.append(as_ids("".join(some(random, WORDS + FOREIGN, size))) + some(random, range(256, 260), size))
    decode.compare([(ids, {id: TOKENS[id] for id in shuffled(random, ids)}) for ids in inputs])


def half_characters(decode, random):
    """a character of which a part is missing becomes �, and the rest is read as ever"""
    inputs = []
    for word in shuffled(random, ["é", "犬", "🐕", "丘"]):
        ids = as_ids(word)
        start = [256] * draw(random, 0, 1)
        inputs += [start + ids[:-1], start + ids[1:], [*ids[:-1], 257, *ids]]
    decode.compare([(ids, {id: TOKENS[id] for id in shuffled(random, ids)}) for ids in sorted(inputs, key=len)])


def refuses(ids, tokens):
    try:
        return b"".join(tokens[id] for id in ids).decode()
    except UnicodeDecodeError:
        return ""


DECODE_IDS = Exercise(
    name="decode_ids",
    lesson="hw1",
    title="ids to text, whatever their bytes are",
    oracle=decode_ids,
    may_call=("patterns",),
    checks={"text": (whole_texts, half_characters)},
    mistakes={
        "it reads each token by itself: a character may be spread over several, so join the bytes first": one_by_one,
        "it reads each byte as a character: the bytes are UTF-8": lambda ids, tokens: b"".join(
            tokens[id] for id in ids
        ).decode("latin-1"),
        "it leaves out the bytes that are no UTF-8: a reader should see � in their place": lambda ids, tokens: b"".join(
            tokens[id] for id in ids
        ).decode("utf-8", errors="ignore"),
        "where the bytes are not UTF-8 it gives up: replace what cannot be read, and keep the rest": refuses,
        "it puts spaces between the tokens: a token brings its own": lambda ids, tokens: b" ".join(
            tokens[id] for id in ids
        ).decode("utf-8", errors="replace"),
        "it gives the bytes; a text is asked for": lambda ids, tokens: b"".join(tokens[id] for id in ids),
        "white space at the ends is lost": lambda ids, tokens: decode_ids(ids, tokens).strip(),
    },
    hints=(
        "`tokens[id]` is the bytes of a token. Two steps: all bytes, then the text that they are.",
        '`b"".join(…)` joins bytes, as `"".join(…)` joins texts. Join before you decode: 犬 may be three tokens.',
        "`bytes.decode` stops at bytes that are no UTF-8, unless its argument `errors` says what to do with them. "
        "One of its values (`help(bytes.decode)` names them) puts � there and goes on.",
    ),
)

# ---- the bill ------------------------------------------------------------------------------------


def chat_bills(turns, encoders, prices, context, chats):
    return bills(turns, encoders, prices, context, chats)


def bills(
    turns, encoders, prices, context, chats, sent=None, fits=None, million=1e6, swap=False, none=None, count=None
):
    """The right bill, and what comes out where one step is done otherwise."""
    found = {}
    for name, encode in encoders.items():
        number = count or (lambda text, encode=encode: len(encode(text)))
        lengths = [(number(question), number(answer)) for question, answer in turns]
        requests = (sent or whole_conversation)(lengths)
        price_in, price_out = prices[name][:: -1 if swap else 1]
        cost = sum(tokens * price_in + written * price_out for tokens, written in requests)
        fit = fits or (lambda requests, context: all(sum(request) <= context for request in requests))
        found[name] = cost / million * chats if fit(requests, context) else none
    return found


def whole_conversation(lengths):
    """(tokens sent, tokens written) of each request: everything so far is sent again."""
    return [(sum(map(sum, lengths[:i])) + lengths[i][0], lengths[i][1]) for i in range(len(lengths))]


def otherwise(**changes):
    return lambda *arguments: bills(*arguments, **changes)


def billed_for(requests):
    """One who bills other requests than are sent, and knows what fits."""

    def answer(turns, encoders, prices, context, chats):
        right, other = bills(turns, encoders, prices, context, chats), {}
        for name, cost in bills(turns, encoders, prices, inf, chats, sent=requests).items():
            other[name] = None if right[name] is None else cost
        return other

    return answer


def joined_first(turns, encoders, prices, context, chats):
    found = {}
    for name, encode in encoders.items():
        requests, text = [], ""
        for question, answer in turns:
            text += question
            requests.append((len(encode(text)), len(encode(answer))))
            text += answer
        cost = sum(read * prices[name][0] + written * prices[name][1] for read, written in requests)
        found[name] = cost * chats / 1e6 if all(sum(request) <= context for request in requests) else None
    return found


def a_token_a_letter(text):
    return list(text)


def a_token_a_byte(text):
    return list(text.encode())


def a_token_two_letters(text):
    return [text[i : i + 2] for i in range(0, len(text), 2)]


@functools.cache
def five_encoders():
    """The production vocabularies, each as a plain function."""

    def encoder(name):
        tokenizer = load_tokenizer(name)

        def encode(text):
            return tokenizer.encode(text)

        encode.__name__ = name
        return encode

    return {name: encoder(name) for name in NAMES}


SAYINGS = [
    "Where did the dog run?",
    "Up the hill.",
    "犬は丘を駆け上がった。",
    "El perro subió la colina corriendo.",
    "return 3.14159 * radius ** 2",
    "Why?",
    "It saw a ball 🐕 there, and 1,000,000 others.",
    "Thanks!",
]


def prices_for(random, encoders):
    # no two alike, and what the model writes costs more than what it reads
    return {name: (draw(random, 1, 40) / 8, draw(random, 41, 120) / 8) for name in encoders}


def conversations(random, encoders, contexts, turns=(1, 2, 2, 3, 4, 6)):
    for number in turns:
        lines = [tuple(some(random, SAYINGS, 2)) for _ in range(number)]
        yield lines, encoders, prices_for(random, encoders), contexts, draw(random, 200_000, 900_000)


def one_turn(bill, random):
    """one question and one answer"""
    encoders = {"letters": a_token_a_letter, "bytes": a_token_a_byte}
    few = [(*one[:4], draw(random, 2, 9)) for one in conversations(random, encoders, 4096, turns=(1,))]
    bill.compare(few + list(conversations(random, encoders, 4096, turns=(1,) * 6)))


def many_turns(bill, random):
    """a conversation: each request sends everything so far once more"""
    bill.compare(conversations(random, {"twos": a_token_two_letters, "letters": a_token_a_letter}, 4096))


def in_five_vocabularies(bill, random):
    """in the five production vocabularies"""
    bill.compare(conversations(random, five_encoders(), 8192, turns=(1, 3, 5)))


def no_room(bill, random):
    """None where a request and its answer do not fit into the context; they may fill it to the last token"""
    inputs = []
    for turns, encoders, prices, _, number in conversations(
        random, {"letters": a_token_a_letter, "twos": a_token_two_letters}, 0
    ):
        lengths = [[(len(a_token_a_letter(q)), len(a_token_a_letter(a))) for q, a in turns]]
        largest = sum(whole_conversation(lengths[0])[-1])
        for context in (largest, largest - 1, largest // 2, largest + 1):
            inputs.append((turns, encoders, prices, context, number))
    bill.compare(inputs)


CHAT_BILLS = Exercise(
    name="chat_bills",
    lesson="hw1",
    title="the bill of a conversation, in any vocabularies",
    oracle=chat_bills,
    may_call=("patterns",),
    checks={"bills": (one_turn, many_turns, in_five_vocabularies, no_room)},
    mistakes={
        "it sends only the newest question: a model remembers nothing, so everything so far is sent again": billed_for(
            lambda lengths: lengths
        ),
        "the model's own earlier answers are sent again, too: they are part of the conversation": billed_for(
            lambda lengths: [(sum(q for q, _ in lengths[: i + 1]), lengths[i][1]) for i in range(len(lengths))]
        ),
        "the answer counts as read before it is written: a request ends with its question": billed_for(
            lambda lengths: [(sum(map(sum, lengths[: i + 1])), lengths[i][1]) for i in range(len(lengths))]
        ),
        "it bills the last request only: each turn is a request of its own": billed_for(
            lambda lengths: whole_conversation(lengths)[-1:]
        ),
        "what the model writes is not on the bill": billed_for(
            lambda lengths: [(sent, 0) for sent, _ in whole_conversation(lengths)]
        ),
        "the price of reading and the price of writing are swapped": otherwise(swap=True),
        "prices are for a million tokens, and it takes them for a thousand": otherwise(million=1e3),
        "prices are for a million tokens, and it takes them for one": otherwise(million=1),
        "it is the bill of one conversation: `chats` of them are asked for": lambda *given: bills(*given[:-1], 1),
        "it counts characters: what is paid for is tokens": otherwise(count=len),
        "it counts words: what is paid for is tokens": otherwise(count=lambda text: len(text.split())),
        "it forgets that the context is limited": otherwise(fits=lambda requests, context: True),
        "a request that fills the context to its last token still fits": otherwise(
            fits=lambda requests, context: all(sum(request) < context for request in requests)
        ),
        "the answer needs room in the context, too": otherwise(
            fits=lambda requests, context: all(sent <= context for sent, _ in requests)
        ),
        "all requests together need not fit into the context: each one by itself must": otherwise(
            fits=lambda requests, context: sum(map(sum, requests)) <= context
        ),
        "what does not fit costs None, not 0": otherwise(none=0.0),
        "every text is encoded by itself: all of them joined are cut into other tokens": joined_first,
        "it rounds the bill: a request of a few tokens costs less than a cent": lambda *given: {
            name: None if cost is None else round(cost, 2) for name, cost in bills(*given).items()
        },
    },
    hints=(
        "One vocabulary at a time: count the tokens of each text with `len(encode(text))`, then go through the "
        "turns and keep a sum of all tokens so far.",
        "In each turn the model reads everything so far and the new question, and writes the answer. After the turn "
        "both belong to what is read next time. Reading and writing have a price each.",
        "The sum of all tokens so far is 0 before the first turn, and after each turn it is what was read and written "
        "in it. So that sum is also what has to fit into the context. The prices come last: for one conversation "
        "first, then for `chats` of them, and a price is for a million tokens.",
    ),
)

# ---- rotary positions ----------------------------------------------------------------------------


def apply_rope(x, positions, theta):
    return rotate(x, rotation_angles(positions, x.shape[-1], theta))


def turned(power=lambda pair, d_head: 2 * pair / d_head, where=lambda positions: positions, sign=1, halves=True):
    """One whose angles or pairs are others."""

    def answer(x, positions, theta):
        pair = torch.arange(x.shape[-1] // 2)
        angles = sign * where(positions)[:, None] * theta ** -power(pair, x.shape[-1])
        return rotate(x, angles, "halves" if halves else "neighbours")

    return answer


def turned_as(turn, together=lambda halves: torch.cat(halves, dim=-1)):
    """One with the right angles, and another formula for a pair."""

    def answer(x, positions, theta):
        angles = rotation_angles(positions, x.shape[-1], theta)
        return together(turn(*x.chunk(2, dim=-1), angles.cos(), angles.sin()))

    return answer


def with_the_new_a(x, positions, theta):
    angles = rotation_angles(positions, x.shape[-1], theta)
    a, b = x.chunk(2, dim=-1)
    a = a * angles.cos() - b * angles.sin()
    return torch.cat((a, a * angles.sin() + b * angles.cos()), dim=-1)


def places(random, number):
    """Positions with gaps, in no order."""
    return torch.randperm(60, generator=random)[:number] + 1


def one_pair(turn, random):
    """two numbers: one pair, turned by one radian a position"""
    inputs = [(torch.tensor([[1.0, 0.0]]), torch.tensor([position]), 10_000.0) for position in (0, 1, 2)]
    turn.compare(inputs + [(vectors(random, n, 2), places(random, n), 10_000.0) for n in (1, 2, 4)])


def many_pairs(turn, random):
    """many pairs, each slower than the one before it"""
    turn.compare((vectors(random, n, d), places(random, n), 10_000.0) for n, d in ((1, 4), (2, 4), (3, 8), (5, 16)))


def heads(turn, random):
    """any dimensions in front: batches, heads"""
    shapes = ((2, 3, 4), (3, 2, 4), (2, 3, 4, 8), (4, 2, 5, 6))
    turn.compare((vectors(random, *shape), places(random, shape[-2]), 10_000.0) for shape in shapes)


def other_bases(turn, random):
    """with another theta: SmolLM2's is 100,000"""
    turn.compare((vectors(random, 3, d), places(random, 3), theta) for d, theta in ((4, 100.0), (8, 100_000.0)))


APPLY_ROPE = Exercise(
    name="apply_rope",
    lesson="hw1",
    title="rotary positions",
    oracle=apply_rope,
    may_call=("patterns",),
    checks={"rotation": (one_pair, many_pairs, heads, other_bases)},
    mistakes={
        "it pairs neighbours, 2i with 2i + 1: here the first half is paired with the second": turned(halves=False),
        "it turns the other way round: a cos − b sin, and a sin + b cos": turned(sign=-1),
        "the slow pairs turn too fast: the exponent is −2i/d_head, and i counts the pairs": turned(
            lambda pair, d_head: pair / d_head
        ),
        "the slow pairs turn too slowly: i counts the pairs, from 0 to d_head/2 − 1": turned(
            lambda pair, d_head: 4 * pair / d_head
        ),
        "the first pair does not turn by one radian a position: i counts from 0": turned(
            lambda pair, d_head: 2 * (pair + 1) / d_head
        ),
        "the later pairs turn faster: the exponent is negative": turned(lambda pair, d_head: -2 * pair / d_head),
        "every pair turns alike: pair i turns by position · theta^(−2i/d_head)": turned(lambda pair, d_head: 0 * pair),
        "it ignores `positions` and counts 0, 1, 2 …: the tokens may stand anywhere": turned(
            where=lambda positions: torch.arange(len(positions))
        ),
        "its positions are one too high": turned(where=lambda positions: positions + 1),
        "the second half is made with the first half's new numbers: both need the old ones": with_the_new_a,
        "sine and cosine are swapped: at position 0 nothing turns": turned_as(
            lambda a, b, cos, sin: (a * sin - b * cos, a * cos + b * sin)
        ),
        "a sign is wrong: the first of a pair becomes a cos − b sin, with a minus": turned_as(
            lambda a, b, cos, sin: (a * cos + b * sin, a * sin + b * cos)
        ),
        "a sign is wrong: the second of a pair becomes a sin + b cos, with a plus": turned_as(
            lambda a, b, cos, sin: (a * cos - b * sin, a * sin - b * cos)
        ),
        "a sign is wrong: in the second of a pair, a sin has no minus": turned_as(
            lambda a, b, cos, sin: (a * cos - b * sin, b * cos - a * sin)
        ),
        "the turned halves come out interleaved: they belong one after the other": turned_as(
            lambda a, b, cos, sin: (a * cos - b * sin, a * sin + b * cos),
            together=lambda halves: torch.stack(halves, dim=-1).flatten(-2),
        ),
        "it takes the angles for degrees, and they are radians": turned(where=lambda positions: positions * (pi / 180)),
        "it turns by degrees: the angles are radians, and torch.cos takes radians": turned(
            where=lambda positions: positions * (180 / pi)
        ),
        "it ignores theta and takes 10,000": lambda x, positions, theta: apply_rope(x, positions, 10_000.0),
    },
    hints=(
        "First the angles, a table of shape (position, d_head / 2): position times theta^(−2i/d_head). Then the halves "
        "of x, `a, b = x.chunk(2, dim=-1)`, turned.",
        "`torch.arange(0, d_head, 2)` is 0, 2, 4 …, which is 2i for all pairs. `positions[:, None]` makes a column, "
        "and a column times a row is a table.",
        "With the table of angles, their cosines and sines are tables too, and they multiply a and b number by number, "
        "whatever dimensions stand in front. Both new halves are made of the *old* a and b. `torch.cat` with `dim=-1` "
        "puts the one after the other.",
    ),
)


def move_keys(keys, shift, theta):
    return apply_rope(keys, torch.full((keys.shape[-2],), shift), theta)


def moved_by(positions):
    return lambda keys, shift, theta: apply_rope(keys, positions(len(keys), shift), theta)


def moved_in_neighbours(keys, shift, theta):
    return rotate(keys, rotation_angles(torch.full((len(keys),), shift), keys.shape[-1], theta), "neighbours")


def to_the_right(move, random):
    """keys move up: to later positions"""
    shifts = shuffled(random, [1, 2, 4, 7, 8, 11, 13, 14])  # to roll 3 or 5 rows by these moves every row
    sizes = ((1, 2), (3, 4), (3, 8), (5, 16))
    move.compare((vectors(random, n, d), shift, 1e4) for shift, (n, d) in zip(shifts, sizes, strict=False))


def to_the_left(move, random):
    """keys move down, where earlier tokens were dropped; by 0 they stay"""
    move.compare((vectors(random, 3, 4), shift, 10_000.0) for shift in (0, -1, draw(random, -20, -2), -32))


def other_base(move, random):
    """with another theta: SmolLM2's is 100,000"""
    move.compare((vectors(random, 3, 8), draw(random, -9, -1), theta) for theta in (100.0, 100_000.0))


def scores_stay(move, random):
    """and so the scores of a query that moves along do not change"""
    keys, query = vectors(random, 6, 16), vectors(random, 1, 16)
    positions, now, shift = torch.arange(40, 46), torch.tensor([47]), -draw(random, 5, 40)
    before = apply_rope(keys, positions, 1e4) @ apply_rope(query, now, 1e4).T
    moved = move.answer(apply_rope(keys, positions, 1e4), shift, 1e4)
    if not isinstance(moved, torch.Tensor) or moved.shape != keys.shape:
        raise Wrong("it does not return a tensor of the shape of the keys")
    after = moved @ apply_rope(query, now + shift, 1e4).T
    if not torch.allclose(before, after, atol=1e-3):
        raise Wrong(
            f"when query and keys both move by {shift}, their scores change, and they should not",
            f"the first is {before[0].item():.3f} before, {after[0].item():.3f} after",
        )


MOVE_KEYS = Exercise(
    name="move_keys",
    lesson="hw1",
    title="keys that were turned once, moved to other positions",
    oracle=move_keys,
    may_call=("positions",),
    checks={"shift": (to_the_right, to_the_left, other_base, scores_stay)},
    mistakes={
        "it turns the wrong way: a key that moves up by 1 turns on by one more step": moved_by(
            lambda n, shift: torch.full((n,), -shift)
        ),
        "it turns a key for its new position, and it had been turned before: only the difference is missing": moved_by(
            lambda n, shift: torch.arange(n) + shift
        ),
        "each key turns farther than the one before it: all of them move by the same shift": moved_by(
            lambda n, shift: torch.arange(n) * shift
        ),
        "each key turns farther than the one before it, the first by one shift: all move by the same": moved_by(
            lambda n, shift: torch.arange(1, n + 1) * shift
        ),
        "every pair turns alike: pair i turns by shift · theta^(−2i/d_head)": lambda keys, shift, theta: apply_rope(
            keys, torch.full((len(keys),), shift), 1.0
        ),
        "it pairs neighbours, 2i with 2i + 1: here the first half is paired with the second": moved_in_neighbours,
        "it moves the rows: they stay in their order, and each is turned": lambda keys, shift, theta: keys.roll(
            shift, 0
        ),
        "it turns by one step, whatever the shift is": moved_by(lambda n, shift: torch.full((n,), 1)),
        "it ignores theta and takes 10,000": lambda keys, shift, theta: move_keys(keys, shift, 10_000.0),
        "the keys come back as they were": lambda keys, shift, theta: keys,
        "it adds the shift to the numbers: a key moves by turning": lambda keys, shift, theta: keys + shift,
    },
    hints=(
        "The key at position p has been turned by p steps. At p + shift it should have been turned by p + shift steps. "
        "How many are missing?",
        "All keys need the same turn, by `shift` steps, wherever they stand. You need not know where that is.",
        "`rotation_angles` wants a position for each row. What stands in it for a key that has to turn on by `shift` "
        "steps, and is it another number in the next row?",
    ),
)

EXERCISES = (
    BYTE_WORDS,
    BEST_PAIR,
    LEARN_MERGES,
    ENCODE_TEXT,
    DECODE_IDS,
    CHAT_BILLS,
    APPLY_ROPE,
    MOVE_KEYS,
)
