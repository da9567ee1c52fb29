"""Homework 1, encoding: text to ids by the merges, and ids to text."""

import functools
import re
from itertools import pairwise

import torch

from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.input_processing.bpe import encode_word, listed_merges, merge_by_scan
from course_lib.input_processing.bpe_training import train_bpe
from course_lib.input_processing.patterns import split_words
from course_lib.input_processing.tokenizer import SpecialToken, split_at_special_tokens
from course_lib.lessons.homework_1.merges import (
    BASE_IDS,
    FOREIGN,
    WORDS,
    best_pair,
    learn,
    makes_new_tokens,
    merged,
    merged_once,
    passage,
    plays,
)
from course_lib.lessons.tools import draw, shuffled, some

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
    # the ids against the ranks, and a pair that comes twice: one place at a time parts from all places at once
    ids = {a: 7, b: 5, c: 300, a + b: 72, a + b + c: 71, a + b + c + a: 70}
    inputs.append((abc + abc[:2], ids, [(a, b), (a + b, c), (a + b + c, a)], {}))
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


NAMES_OF_SPECIAL = ["<|end|>", "<|user|>", "<|model|>", "[INST]", ".*!", "$\\b", "%s{x}"]


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
        alone = [given(random, name, merges, {name: 700}) for name in ("<|end|>", "[INST]", ".*!", "$\\b")]
        alone += [given(random, f"a{name}", merges, {name: 0}) for name in ("<|end|>", "%s{x}")]
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
    inputs = [[], [0], [0, 256, 0], [256], [256, 257], as_ids("é"), as_ids("犬")]
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
