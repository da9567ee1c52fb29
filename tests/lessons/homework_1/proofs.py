import math
import re
from collections import Counter, defaultdict
from itertools import pairwise

import torch
from lessons.proof import Proof

from course_lib.input_processing.bpe_training import BYTES_BY_ID, count_words
from course_lib.input_processing.patterns import split_words
from course_lib.input_processing.positions import rotate, rotation_angles
from course_lib.input_processing.tokenizer import Tokenizer

byte_words = Proof("byte_words")
best_pair = Proof("best_pair")
learn_merges = Proof("learn_merges")
encode_text = Proof("encode_text")
decode_ids = Proof("decode_ids")
chat_bills = Proof("chat_bills")
apply_rope = Proof("apply_rope")
move_keys = Proof("move_keys")

# ---- byte_words ----------------------------------------------------------------------------------


@byte_words.right
def with_get(words):
    counts = {}
    for word in words:
        data = word.encode("utf-8")
        key = tuple(data[i : i + 1] for i in range(len(data)))
        counts[key] = counts.get(key, 0) + 1
    return counts


@byte_words.right
def with_a_counter(words):
    return Counter(tuple(bytes([value]) for value in word.encode()) for word in words)


@byte_words.right
def with_a_defaultdict(words):
    counts = defaultdict(int)
    for word in words:
        counts[tuple(map(int.to_bytes, word.encode()))] += 1
    return counts


@byte_words.wrong("they have to be bytes: b'T', not 'T'")
def characters(words):
    counts = {}
    for word in words:
        counts[tuple(word)] = counts.get(tuple(word), 0) + 1
    return counts


@byte_words.wrong("its tokens are numbers")
def numbers(words):
    counts = {}
    for word in words:
        key = tuple(word.encode())
        counts[key] = counts.get(key, 0) + 1
    return counts


@byte_words.wrong("a character stays whole")
def encoded_characters(words):
    return dict(Counter(tuple(character.encode() for character in word) for word in words))


@byte_words.wrong("not taken apart")
def whole_words(words):
    return dict(Counter(word.encode() for word in words))


@byte_words.wrong("leading space is lost")
def stripped(words):
    return with_get([word.strip() for word in words])


@byte_words.wrong("makes capitals small")
def lower_case(words):
    return with_get([word.lower() for word in words])


@byte_words.wrong("not counted again")
def always_one(words):
    counts = {}
    for word in words:
        counts[tuple(bytes([value]) for value in word.encode())] = 1
    return counts


@byte_words.wrong("it counts single bytes")
def single_bytes(words):
    counts = Counter()
    for word in words:
        for value in word.encode():
            counts[(bytes([value]),)] += 1
    return dict(counts)


@byte_words.wrong("it calls `count_words`")
def counted_by_the_library(words):
    return {tuple(bytes([value]) for value in word.encode()): words.count(word) for word in count_words(words)}


@byte_words.wrong("it stops with UnicodeEncodeError")
def ascii_only(words):
    return dict(Counter(tuple(bytes([value]) for value in word.encode("ascii")) for word in words))


@byte_words.wrong("and a dict is asked for")
def a_list(words):
    return [tuple(bytes([value]) for value in word.encode()) for word in words]


# ---- best_pair -----------------------------------------------------------------------------------


def counted(words):
    counts = {}
    for word, count in words.items():
        for pair in pairwise(word):
            counts[pair] = counts.get(pair, 0) + count
    return counts


@best_pair.right
def by_a_sorted_list(words, ids):
    counts = counted(words)
    ranked = sorted(counts, key=lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]))
    return ranked[0] if ranked else None


@best_pair.right
def by_a_loop(words, ids):
    counts, best = counted(words), None
    for pair, count in counts.items():
        key = (-count, ids[pair[0]], ids[pair[1]])
        if best is None or key < (-counts[best], ids[best[0]], ids[best[1]]):
            best = pair
    return best


@best_pair.wrong("it counts each word once")
def without_weights(words, ids):
    return by_a_loop(dict.fromkeys(words, 1), ids)


@best_pair.wrong("of equals it takes the one that it met first")
def first_met(words, ids):
    counts = counted(words)
    return max(counts, key=counts.get, default=None)


@best_pair.wrong("of equals it takes the one that it met last")
def last_met(words, ids):
    counts, best = counted(words), None
    for pair in counts:
        if best is None or counts[pair] >= counts[best]:
            best = pair
    return best


@best_pair.wrong("first in the alphabet")
def alphabetical(words, ids):
    counts = counted(words)
    return min(counts, key=lambda pair: (-counts[pair], pair), default=None)


@best_pair.wrong("takes the youngest")
def youngest(words, ids):
    counts = counted(words)
    return max(counts, key=lambda pair: (counts[pair], ids[pair[0]], ids[pair[1]]), default=None)


@best_pair.wrong("compares the right tokens first")
def right_first(words, ids):
    counts = counted(words)
    return min(counts, key=lambda pair: (-counts[pair], ids[pair[1]], ids[pair[0]]), default=None)


@best_pair.wrong("forgets to compare the right ones")
def left_only(words, ids):
    counts = counted(words)
    return min(counts, key=lambda pair: (-counts[pair], ids[pair[0]]), default=None)


@best_pair.wrong("counted once too few")
def not_overlapping(words, ids):
    counts = {}
    for word, count in words.items():
        i = 0
        while i < len(word) - 1:
            pair = word[i], word[i + 1]
            counts[pair] = counts.get(pair, 0) + count
            i += 2 if word[i] == word[i + 1] else 1
    return min(counts, key=lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]), default=None)


@best_pair.wrong("comes twice in a word is counted once")
def a_set_of_pairs(words, ids):
    counts = Counter()
    for word, count in words.items():
        for pair in set(pairwise(word)):
            counts[pair] += count
    return min(counts, key=lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]), default=None)


@best_pair.wrong("pairs across two words")
def one_long_text(words, ids):
    text = [token for word, count in words.items() for _ in range(count) for token in word]
    return by_a_loop({tuple(text): 1}, ids)


@best_pair.wrong("it gives the merged token")
def already_merged(words, ids):
    pair = by_a_loop(words, ids)
    return pair[0] + pair[1] if pair else None


@best_pair.wrong("it gives the ids")
def as_ids(words, ids):
    pair = by_a_loop(words, ids)
    return (ids[pair[0]], ids[pair[1]]) if pair else None


@best_pair.wrong("it stops with ValueError")
def never_empty(words, ids):
    counts = counted(words)
    return min(counts, key=lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]))


# ---- learn_merges --------------------------------------------------------------------------------


def first_of_equals(words, ids):
    """A best_pair with a mistake, as somebody's part 3 may be."""
    counts = counted(words)
    return max(counts, key=counts.get, default=None)


def joined(word, pair):
    parts, i = [], 0
    while i < len(word):
        if i + 1 < len(word) and (word[i], word[i + 1]) == pair:
            parts.append(word[i] + word[i + 1])
            i += 2
        else:
            parts.append(word[i])
            i += 1
    return tuple(parts)


@learn_merges.right
def new_dicts(words, ids, n_merges, choose):
    ids, merges = dict(ids), []
    for _ in range(n_merges):
        pair = choose(words, ids)
        if pair is None:
            break
        merges.append(pair)
        ids[pair[0] + pair[1]] = len(ids)
        words = {joined(word, pair): count for word, count in words.items()}
    return merges


@learn_merges.right
def only_words_that_have_it(words, ids, n_merges, choose):
    words, ids, merges = dict(words), {**ids}, []
    while len(merges) < n_merges and (pair := choose(words, ids)) is not None:
        left, right = pair
        ids[left + right] = max(ids.values()) + 1
        for word in list(words):
            parts = list(word)
            for i in range(len(parts) - 1):
                if i + 1 < len(parts) and parts[i] == left and parts[i + 1] == right:
                    parts[i : i + 2] = [left + right]
            if len(parts) < len(word):
                words[tuple(parts)] = words.pop(word)
        merges.append(pair)
    return merges


def learned(merge=joined, number=len, keep=lambda count: count):
    def answer(words, ids, n_merges, choose):
        ids, merges = dict(ids), []
        while len(merges) < n_merges and (pair := choose(words, ids)):
            merges.append(pair)
            ids[pair[0] + pair[1]] = number(ids)
            words = {merge(word, pair): keep(times) for word, times in words.items()}
        return merges

    return answer


@learn_merges.wrong("chooses the same pair again and again")
def never_merges(words, ids, n_merges, choose):
    return learned(merge=lambda word, pair: word)(words, ids, n_merges, choose)


@learn_merges.wrong("the first place of a word only")
def first_place(words, ids, n_merges, choose):
    def once(word, pair):
        for i in range(len(word) - 1):
            if word[i : i + 2] == pair:
                return (*word[:i], pair[0] + pair[1], *word[i + 2 :])
        return word

    return learned(merge=once)(words, ids, n_merges, choose)


@learn_merges.wrong("from right to left")
def from_the_end(words, ids, n_merges, choose):
    def backwards(word, pair):
        parts = list(word)
        i = len(parts) - 2
        while i >= 0:
            if tuple(parts[i : i + 2]) == pair:
                parts[i : i + 2] = [pair[0] + pair[1]]
                i -= 1
            i -= 1
        return tuple(parts)

    return learned(merge=backwards)(words, ids, n_merges, choose)


@learn_merges.wrong("after a merge each word counts once")
def counts_lost(words, ids, n_merges, choose):
    return learned(keep=lambda count: 1)(words, ids, n_merges, choose)


@learn_merges.wrong("not of merges")
def ids_from_one(words, ids, n_merges, choose):
    first = len(ids)
    return learned(number=lambda ids: len(ids) - first + 1)(words, ids, n_merges, choose)


@learn_merges.wrong("older than the first ones")
def ids_downwards(words, ids, n_merges, choose):
    return learned(number=lambda ids: min(ids.values()) - 1)(words, ids, n_merges, choose)


@learn_merges.wrong("all new tokens get the same id")
def one_id_for_all(words, ids, n_merges, choose):
    new = len(ids)
    return learned(number=lambda ids: new)(words, ids, n_merges, choose)


@learn_merges.wrong("whatever `choose` gives")
def by_a_rule_of_its_own(words, ids, n_merges, choose):
    return new_dicts(words, ids, n_merges, by_a_loop)


@learn_merges.wrong("it does not call `choose`")
def by_a_wrong_rule_of_its_own(words, ids, n_merges, choose):
    return new_dicts(words, ids, n_merges, first_of_equals)


@learn_merges.wrong("adds None")
def pads_with_none(words, ids, n_merges, choose):
    ids, merges = dict(ids), []
    for _ in range(n_merges):
        pair = choose(words, ids)
        merges.append(pair)
        if pair:
            ids[pair[0] + pair[1]] = len(ids)
            words = {joined(word, pair): count for word, count in words.items()}
    return merges


@learn_merges.wrong("one merge too few")
def one_too_few(words, ids, n_merges, choose):
    return new_dicts(words, ids, n_merges - 1, choose)


@learn_merges.wrong("one merge too many")
def one_too_many(words, ids, n_merges, choose):
    return new_dicts(words, ids, n_merges + 1, choose)


@learn_merges.wrong("it gives the merged tokens")
def tokens_only(words, ids, n_merges, choose):
    return [left + right for left, right in new_dicts(words, ids, n_merges, choose)]


@learn_merges.wrong("most frequent pairs at the start")
def counted_once(words, ids, n_merges, choose):
    counts = counted(words)
    return sorted(counts, key=lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]))[:n_merges]


@learn_merges.wrong("it stops with TypeError")
def goes_on_for_ever(words, ids, n_merges, choose):
    ids, merges = dict(ids), []
    for _ in range(n_merges):
        left, right = choose(words, ids)
        merges.append((left, right))
        ids[left + right] = len(ids)
        words = {joined(word, (left, right)): count for word, count in words.items()}
    return merges


@learn_merges.wrong("it stops with KeyError")
def no_new_ids(words, ids, n_merges, choose):
    merges = []
    while len(merges) < n_merges and (pair := choose(words, ids)):
        merges.append(pair)
        words = {joined(word, pair): count for word, count in words.items()}
    return merges


@learn_merges.wrong("it changes what it was given")
def in_place(words, ids, n_merges, choose):
    merges = []
    while len(merges) < n_merges and (pair := choose(words, ids)):
        merges.append(pair)
        ids[pair[0] + pair[1]] = len(ids)
        words = {joined(word, pair): count for word, count in words.items()}
    return merges


# ---- encode_text ---------------------------------------------------------------------------------


def encode_word(word, ids, merges):
    rank = {pair: place for place, pair in enumerate(merges)}
    parts = [bytes([value]) for value in word.encode()]
    while len(parts) > 1:
        pairs = list(pairwise(parts))
        best = min(pairs, key=lambda pair: rank.get(pair, math.inf))
        if best not in rank:
            break
        at = pairs.index(best)
        parts[at : at + 2] = [best[0] + best[1]]
    return [ids[part] for part in parts]


def encode_words(text, ids, merges):
    return [id for word in split_words("gpt2")(text) for id in encode_word(word, ids, merges)]


@encode_text.right
def by_re_split(text, ids, merges, special):
    if not special:
        return encode_words(text, ids, merges)
    found = []
    for piece in re.split("(" + "|".join(re.escape(name) for name in special) + ")", text):
        found += [special[piece]] if piece in special else encode_words(piece, ids, merges)
    return found


@encode_text.right
def one_special_after_the_other(text, ids, merges, special):
    pieces = [text]
    for name, id in special.items():
        cut = []
        for piece in pieces:
            if isinstance(piece, int):
                cut.append(piece)
                continue
            first, *others = piece.split(name)
            cut.append(first)
            for other in others:
                cut += [id, other]
        pieces = cut
    return [id for piece in pieces for id in ([piece] if isinstance(piece, int) else encode_words(piece, ids, merges))]


@encode_text.right
def merge_by_merge(text, ids, merges, special):
    """Each merge in turn, at all its places: the order in which they were learned."""
    found, start = [], 0
    places = re.finditer("|".join(map(re.escape, special)), text) if special else ()
    pieces = []
    for match in places:
        pieces += [text[start : match.start()], special[match.group()]]
        start = match.end()
    for piece in [*pieces, text[start:]]:
        if isinstance(piece, int):
            found.append(piece)
            continue
        for word in split_words("gpt2")(piece):
            parts = tuple(bytes([value]) for value in word.encode())
            for pair in merges:
                parts = joined(parts, pair)
            found += [ids[part] for part in parts]
    return found


def with_pieces(of_piece, text, special):
    found = []
    for piece in re.split("(" + "|".join(map(re.escape, special)) + ")", text) if special else [text]:
        found += [special[piece]] if piece in special else of_piece(piece)
    return found


@encode_text.wrong("it takes special tokens for ordinary text")
def never_special(text, ids, merges, special):
    return encode_words(text, ids, merges)


@encode_text.wrong("it calls `Tokenizer.from_pairs`")
def by_the_librarys_tokenizer(text, ids, merges, special):
    # written so that it would come out right: back from the library's ids to the tokens, and to these ids
    tokenizer = Tokenizer.from_pairs(merges)
    return with_pieces(lambda piece: [ids[tokenizer.token_bytes(id)] for id in tokenizer.encode(piece)], text, special)


@encode_text.wrong("it takes the id for the rank")
def oldest_id_first(text, ids, merges, special):
    rank = {pair: ids[pair[0] + pair[1]] for pair in merges}

    def of_piece(piece):
        found = []
        for word in split_words("gpt2")(piece):
            parts = [bytes([value]) for value in word.encode()]
            while here := [pair for pair in pairwise(parts) if pair in rank]:
                parts = list(joined(tuple(parts), min(here, key=rank.get)))
            found += [ids[part] for part in parts]
        return found

    return with_pieces(of_piece, text, special)


def renumbered(text, ids, merges, special, byte_ids):
    made = byte_ids | {left + right: 256 + rank for rank, (left, right) in enumerate(merges)}
    return with_pieces(lambda piece: encode_words(piece, made, merges), text, special)


@encode_text.wrong("it numbers the merged tokens 256, 257")
def ids_made_up(text, ids, merges, special):
    return renumbered(text, ids, merges, special, ids)


@encode_text.wrong("it does not look into `ids`")
def ids_never_read(text, ids, merges, special):
    return renumbered(text, ids, merges, special, {token: id for id, token in enumerate(BYTES_BY_ID)})


@encode_text.wrong("it takes a byte's value for its id")
def ids_are_values(text, ids, merges, special):
    return renumbered(text, ids, merges, special, {bytes([value]): value for value in range(256)})


@encode_text.wrong("its pattern is empty, and cuts between all characters")
def empty_pattern(text, ids, merges, special):
    found = []
    for piece in re.split("(" + "|".join(map(re.escape, special)) + ")", text):
        found += [special[piece]] if piece in special else encode_words(piece, ids, merges)
    return found


@encode_text.wrong("it takes anything in <|…|> for a special token")
def whatever_looks_special(text, ids, merges, special):
    found = []
    for piece in re.split(r"(<\|\w+\|>)", text):
        if piece.startswith("<|") and piece.endswith("|>"):
            found += [special[piece]] if piece in special else []
        else:
            found += encode_words(piece, ids, merges)
    return found


@encode_text.wrong("it takes the longest token that fits")
def longest_match(text, ids, merges, special):
    def of_piece(piece):
        found = []
        for word in split_words("gpt2")(piece):
            data = word.encode()
            while data:
                end = len(data)
                while data[:end] not in ids:
                    end -= 1
                found.append(ids[data[:end]])
                data = data[end:]
        return found

    return with_pieces(of_piece, text, special)


@encode_text.wrong("it merges nothing")
def bytes_only(text, ids, merges, special):
    return with_pieces(lambda piece: [ids[bytes([value])] for value in piece.encode()], text, special)


@encode_text.wrong("the one that was learned first goes first")
def first_pair_in_the_list(text, ids, merges, special):
    def of_piece(piece):
        found = []
        for word in split_words("gpt2")(piece):
            parts, i = [bytes([value]) for value in word.encode()], 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) in merges:
                    parts[i : i + 2] = [parts[i] + parts[i + 1]]
                    i = 0
                else:
                    i += 1
            found += [ids[part] for part in parts]
        return found

    return with_pieces(of_piece, text, special)


@encode_text.wrong("at one place of a word only")
def one_place(text, ids, merges, special):
    def of_piece(piece):
        found = []
        for word in split_words("gpt2")(piece):
            parts = [bytes([value]) for value in word.encode()]
            for pair in merges:
                for i in range(len(parts) - 1):
                    if (parts[i], parts[i + 1]) == pair:
                        parts[i : i + 2] = [parts[i] + parts[i + 1]]
                        break
            found += [ids[part] for part in parts]
        return found

    return with_pieces(of_piece, text, special)


@encode_text.wrong("the pair that was learned last")
def highest_rank(text, ids, merges, special):
    def of_piece(piece):
        found = []
        for word in split_words("gpt2")(piece):
            parts = [bytes([value]) for value in word.encode()]
            while here := [pair for pair in pairwise(parts) if pair in merges]:
                best = max(here, key=merges.index)
                at = list(pairwise(parts)).index(best)
                parts[at : at + 2] = [best[0] + best[1]]
            found += [ids[part] for part in parts]
        return found

    return with_pieces(of_piece, text, special)


@encode_text.wrong("it merges across words")
def without_words(text, ids, merges, special):
    return with_pieces(lambda piece: encode_word(piece, ids, merges), text, special)


@encode_text.wrong("str.split() does not")
def by_str_split(text, ids, merges, special):
    return with_pieces(
        lambda piece: [id for word in piece.split() for id in encode_word(word, ids, merges)], text, special
    )


@encode_text.wrong("re.escape(name) makes them plain")
def unescaped(text, ids, merges, special):
    found = []
    for piece in re.split("(" + "|".join(special) + ")", text) if special else [text]:
        found += [special[piece]] if piece in special else encode_words(piece, ids, merges)
    return found


@encode_text.wrong("are cut out and lost")
def cut_out(text, ids, merges, special):
    pieces = re.split("|".join(map(re.escape, special)), text) if special else [text]
    return [id for piece in pieces for id in encode_words(piece, ids, merges)]


@encode_text.wrong("beside a special token is lost")
def pieces_stripped(text, ids, merges, special):
    if not special:
        return encode_words(text, ids, merges)
    return with_pieces(lambda piece: encode_words(piece.strip(), ids, merges), text, special)


@encode_text.wrong("only the first special token is found")
def once_only(text, ids, merges, special):
    for match in re.finditer("|".join(map(re.escape, special)), text) if special else ():
        return [
            *encode_words(text[: match.start()], ids, merges),
            special[match.group()],
            *encode_words(text[match.end() :], ids, merges),
        ]
    return encode_words(text, ids, merges)


@encode_text.wrong("it gives another value")
def one_token_for_each_word(text, ids, merges, special):
    def of_piece(piece):
        return [ids.get(word.encode(), 0) for word in split_words("gpt2")(piece)]

    return with_pieces(of_piece, text, special)


@encode_text.wrong("it stops with KeyError")
def characters_not_bytes(text, ids, merges, special):
    def of_piece(piece):
        found = []
        for word in split_words("gpt2")(piece):
            parts = tuple(character.encode() for character in word)
            for pair in merges:
                parts = joined(parts, pair)
            found += [ids[part] for part in parts]
        return found

    return with_pieces(of_piece, text, special)


@encode_text.wrong("it stops with ValueError: min() ")
def no_empty_words(text, ids, merges, special):
    def of_piece(piece):
        rank = {pair: place for place, pair in enumerate(merges)}
        found = []
        for word in split_words("gpt2")(piece):
            parts = [bytes([value]) for value in word.encode()]
            while True:
                best = min(pairwise(parts), key=lambda pair: rank.get(pair, math.inf))
                if best not in rank:
                    break
                parts = list(joined(tuple(parts), best))
            found += [ids[part] for part in parts]
        return found

    return with_pieces(of_piece, text, special)


# ---- decode_ids ----------------------------------------------------------------------------------


@decode_ids.right
def join_then_decode(ids, tokens):
    return b"".join([tokens[id] for id in ids]).decode("utf-8", "replace")


@decode_ids.right
def add_up(ids, tokens):
    data = b""
    for id in ids:
        data += tokens[id]
    return str(data, encoding="utf-8", errors="replace")


@decode_ids.wrong("it reads each token by itself")
def each_alone(ids, tokens):
    return "".join(tokens[id].decode(errors="replace") for id in ids)


@decode_ids.wrong("it reads each byte as a character")
def byte_by_byte(ids, tokens):
    return "".join(chr(value) for id in ids for value in tokens[id])


@decode_ids.wrong("it leaves out the bytes that are no UTF-8")
def ignoring(ids, tokens):
    return b"".join(tokens[id] for id in ids).decode("utf-8", errors="ignore")


@decode_ids.wrong("it gives up")
def all_or_nothing(ids, tokens):
    try:
        return b"".join(tokens[id] for id in ids).decode("utf-8")
    except UnicodeDecodeError:
        return ""


@decode_ids.wrong("it stops with UnicodeDecodeError")
def strictly(ids, tokens):
    return b"".join(tokens[id] for id in ids).decode("utf-8")


@decode_ids.wrong("it puts spaces between the tokens")
def with_spaces(ids, tokens):
    return b" ".join(tokens[id] for id in ids).decode("utf-8", errors="replace")


@decode_ids.wrong("it gives the bytes")
def undecoded(ids, tokens):
    return b"".join(tokens[id] for id in ids)


@decode_ids.wrong("white space at the ends is lost")
def stripped_text(ids, tokens):
    return b"".join(tokens[id] for id in ids).decode("utf-8", errors="replace").strip()


@decode_ids.wrong("it returns a list of")
def pieces_of_text(ids, tokens):
    return [tokens[id].decode("utf-8", errors="replace") for id in ids]


# ---- chat_bills ----------------------------------------------------------------------------------


@chat_bills.right
def with_a_running_sum(turns, encoders, prices, context, chats):
    bills = {}
    for name, encode in encoders.items():
        price_in, price_out = prices[name]
        so_far, cost = 0, 0.0
        for question, answer in turns:
            read, written = so_far + len(encode(question)), len(encode(answer))
            if read + written > context:
                cost = None
                break
            cost += (read * price_in + written * price_out) / 1_000_000
            so_far = read + written
        bills[name] = cost * chats if cost is not None else None
    return bills


@chat_bills.right
def with_lists(turns, encoders, prices, context, chats):
    def bill(name):
        lengths = [len(encoders[name](text)) for turn in turns for text in turn]
        if sum(lengths) > context:
            return None
        read = sum(sum(lengths[:end]) for end in range(1, len(lengths), 2))
        return chats / 1e6 * (read * prices[name][0] + sum(lengths[1::2]) * prices[name][1])

    return {name: bill(name) for name in encoders}


def billed(turns, encoders, prices, context, chats, request):
    """The bill with other requests: request(so far, question, answer) → (read, written)."""
    bills = {}
    for name, encode in encoders.items():
        lengths = [(len(encode(question)), len(encode(answer))) for question, answer in turns]
        so_far, cost = 0, 0
        for question, answer in lengths:
            read, written = request(so_far, question, answer)
            cost += read * prices[name][0] + written * prices[name][1]
            so_far += question + answer
        bills[name] = cost * chats / 1e6 if so_far <= context else None
    return bills


@chat_bills.wrong("it sends only the newest question")
def newest_only(turns, encoders, prices, context, chats):
    return billed(turns, encoders, prices, context, chats, lambda so_far, question, answer: (question, answer))


@chat_bills.wrong("the model's own earlier answers")
def questions_only(turns, encoders, prices, context, chats):
    bills = {}
    for name, encode in encoders.items():
        asked, cost = 0, 0
        for question, answer in turns:
            asked += len(encode(question))
            cost += asked * prices[name][0] + len(encode(answer)) * prices[name][1]
        everything = sum(len(encode(text)) for turn in turns for text in turn)
        bills[name] = cost * chats / 1e6 if everything <= context else None
    return bills


@chat_bills.wrong("read before it is written")
def answer_read_too(turns, encoders, prices, context, chats):
    return billed(turns, encoders, prices, context, chats, lambda so_far, q, a: (so_far + q + a, a))


@chat_bills.wrong("the last request only")
def last_request(turns, encoders, prices, context, chats):
    bills = {}
    for name, encode in encoders.items():
        *earlier, last = [len(encode(text)) for turn in turns for text in turn]
        cost = sum(earlier) * prices[name][0] + last * prices[name][1]
        bills[name] = cost * chats / 1e6 if sum(earlier) + last <= context else None
    return bills


@chat_bills.wrong("what the model writes is not on the bill")
def reading_only(turns, encoders, prices, context, chats):
    return billed(turns, encoders, prices, context, chats, lambda so_far, q, a: (so_far + q, 0))


@chat_bills.wrong("are swapped")
def swapped_prices(turns, encoders, prices, context, chats):
    return with_lists(turns, encoders, {name: two[::-1] for name, two in prices.items()}, context, chats)


def times(bills, factor):
    return {name: None if cost is None else cost * factor for name, cost in bills.items()}


@chat_bills.wrong("it takes them for a thousand")
def per_thousand(turns, encoders, prices, context, chats):
    return times(with_lists(turns, encoders, prices, context, chats), 1000)


@chat_bills.wrong("it takes them for one")
def per_token(turns, encoders, prices, context, chats):
    return times(with_lists(turns, encoders, prices, context, chats), 1_000_000)


@chat_bills.wrong("the bill of one conversation")
def one_chat(turns, encoders, prices, context, chats):
    return with_lists(turns, encoders, prices, context, 1)


@chat_bills.wrong("it counts characters")
def by_characters(turns, encoders, prices, context, chats):
    return with_lists(turns, dict.fromkeys(encoders, list), prices, context, chats)


@chat_bills.wrong("it counts words")
def by_words(turns, encoders, prices, context, chats):
    return with_lists(turns, dict.fromkeys(encoders, str.split), prices, context, chats)


@chat_bills.wrong("it forgets that the context is limited")
def no_limit(turns, encoders, prices, context, chats):
    return with_lists(turns, encoders, prices, math.inf, chats)


@chat_bills.wrong("to its last token still fits")
def strictly_less(turns, encoders, prices, context, chats):
    return with_lists(turns, encoders, prices, context - 1, chats)


@chat_bills.wrong("the answer needs room")
def room_for_the_question(turns, encoders, prices, context, chats):
    bills = with_lists(turns, encoders, prices, math.inf, chats)
    for name, encode in encoders.items():
        lengths = [len(encode(text)) for turn in turns for text in turn]
        if sum(lengths[:-1]) > context:
            bills[name] = None
    return bills


@chat_bills.wrong("all requests together")
def all_together(turns, encoders, prices, context, chats):
    bills = with_lists(turns, encoders, prices, math.inf, chats)
    for name, encode in encoders.items():
        lengths = [len(encode(text)) for turn in turns for text in turn]
        if sum(sum(lengths[:end]) for end in range(2, len(lengths) + 1, 2)) > context:
            bills[name] = None
    return bills


@chat_bills.wrong("every text is encoded by itself")
def one_long_history(turns, encoders, prices, context, chats):
    bills = {}
    for name, encode in encoders.items():
        history, cost, fits = "", 0.0, True
        for question, answer in turns:
            read, written = len(encode(history + question)), len(encode(answer))
            cost += read * prices[name][0] + written * prices[name][1]
            fits = fits and read + written <= context
            history += question + answer
        bills[name] = cost * chats / 1e6 if fits else None
    return bills


@chat_bills.wrong("it rounds the bill")
def to_the_cent(turns, encoders, prices, context, chats):
    bills = with_lists(turns, encoders, prices, context, chats)
    return {name: None if cost is None else round(cost, 2) for name, cost in bills.items()}


@chat_bills.wrong("costs None, not 0")
def zero(turns, encoders, prices, context, chats):
    bills = with_lists(turns, encoders, prices, context, chats)
    return {name: cost or 0.0 for name, cost in bills.items()}


@chat_bills.wrong("it returns a float, and")
def the_cheapest(turns, encoders, prices, context, chats):
    return min(filter(None, with_lists(turns, encoders, prices, context, chats).values()), default=0.0)


@chat_bills.wrong("it gives another value")
def what_fits_only(turns, encoders, prices, context, chats):
    return {name: cost for name, cost in with_lists(turns, encoders, prices, context, chats).items() if cost}


# ---- apply_rope ----------------------------------------------------------------------------------


@apply_rope.right
def by_chunks(x, positions, theta):
    d_head = x.shape[-1]
    angles = positions[:, None] * theta ** (-torch.arange(0, d_head, 2) / d_head)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), dim=-1)


@apply_rope.right
def rotate_half(x, positions, theta):
    """As transformers does it."""
    half = x.shape[-1] // 2
    frequencies = 1.0 / theta ** (torch.arange(half).float() / half)
    angles = torch.outer(positions.float(), frequencies).repeat(1, 2)
    return x * angles.cos() + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * angles.sin()


@apply_rope.right
def complex_numbers(x, positions, theta):
    half = x.shape[-1] // 2
    turn = torch.exp(1j * positions[:, None] * theta ** (-torch.arange(half) / half))
    turned = torch.complex(x[..., :half], x[..., half:]) * turn
    return torch.cat((turned.real, turned.imag), dim=-1).float()


@apply_rope.right
def pair_by_pair(x, positions, theta):
    out, half = x.clone(), x.shape[-1] // 2
    for place, position in enumerate(positions.tolist()):
        for i in range(half):
            angle = position * theta ** (-2 * i / x.shape[-1])
            a, b = x[..., place, i], x[..., place, i + half]
            out[..., place, i] = a * math.cos(angle) - b * math.sin(angle)
            out[..., place, i + half] = a * math.sin(angle) + b * math.cos(angle)
    return out


def angles_of(positions, d_head, theta):
    return positions[:, None] * theta ** (-torch.arange(0, d_head, 2) / d_head)


def turned_by(x, angles):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), dim=-1)


def turned(x, positions, theta, exponent=1.0, sign=1.0):
    d_head = x.shape[-1]
    return turned_by(x, sign * positions[:, None] * theta ** (-exponent * torch.arange(0, d_head, 2) / d_head))


@apply_rope.wrong("it pairs neighbours")
def neighbours(x, positions, theta):
    angles = angles_of(positions, x.shape[-1], theta)
    a, b = x[..., 0::2], x[..., 1::2]
    turned = (a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos())
    return torch.stack(turned, dim=-1).reshape(x.shape)


@apply_rope.wrong("it calls `rotation_angles` of course_lib")
def by_the_librarys_functions(x, positions, theta):
    return rotate(x, rotation_angles(positions, x.shape[-1], theta))


@apply_rope.wrong("it calls `rotate` of course_lib")
def with_the_librarys_rotate(x, positions, theta):
    return rotate(x, angles_of(positions, x.shape[-1], theta))


@apply_rope.wrong("becomes a cos − b sin, with a minus")
def plus_for_minus(x, positions, theta):
    angles = angles_of(positions, x.shape[-1], theta)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * angles.cos() + b * angles.sin(), a * angles.sin() + b * angles.cos()), dim=-1)


@apply_rope.wrong("becomes a sin + b cos, with a plus")
def minus_for_plus(x, positions, theta):
    angles = angles_of(positions, x.shape[-1], theta)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * angles.cos() - b * angles.sin(), a * angles.sin() - b * angles.cos()), dim=-1)


@apply_rope.wrong("a sin has no minus")
def minus_twice(x, positions, theta):
    angles = angles_of(positions, x.shape[-1], theta)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * angles.cos() - b * angles.sin(), -a * angles.sin() + b * angles.cos()), dim=-1)


@apply_rope.wrong("come out interleaved")
def interleaved(x, positions, theta):
    return torch.stack(turned(x, positions, theta).chunk(2, dim=-1), dim=-1).reshape(x.shape)


@apply_rope.wrong("it takes the angles for degrees")
def degrees_to_radians(x, positions, theta):
    return turned_by(x, torch.deg2rad(angles_of(positions, x.shape[-1], theta)))


@apply_rope.wrong("it turns by degrees")
def radians_to_degrees(x, positions, theta):
    return turned_by(x, torch.rad2deg(angles_of(positions, x.shape[-1], theta)))


@apply_rope.wrong("the other way round")
def backwards(x, positions, theta):
    return turned(x, positions, theta, sign=-1.0)


@apply_rope.wrong("turn too fast")
def half_the_exponent(x, positions, theta):
    return turned(x, positions, theta, exponent=0.5)


@apply_rope.wrong("turn too slowly")
def twice_the_exponent(x, positions, theta):
    return turned(x, positions, theta, exponent=2.0)


@apply_rope.wrong("i counts from 0")
def pairs_from_one(x, positions, theta):
    half = x.shape[-1] // 2
    return turned_by(x, positions[:, None] * theta ** (-torch.arange(1, half + 1) / half))


@apply_rope.wrong("the exponent is negative")
def faster_and_faster(x, positions, theta):
    return turned(x, positions, theta, exponent=-1.0)


@apply_rope.wrong("every pair turns alike")
def one_speed(x, positions, theta):
    return turned(x, positions, theta, exponent=0.0)


@apply_rope.wrong("it ignores `positions`")
def counts_itself(x, positions, theta):
    return turned(x, torch.arange(x.shape[-2]), theta)


@apply_rope.wrong("its positions are one too high")
def positions_from_one(x, positions, theta):
    return turned(x, positions + 1, theta)


@apply_rope.wrong("the first half's new numbers")
def one_after_the_other(x, positions, theta):
    angles, x, half = angles_of(positions, x.shape[-1], theta), x.clone(), x.shape[-1] // 2
    x[..., :half] = x[..., :half] * angles.cos() - x[..., half:] * angles.sin()
    x[..., half:] = x[..., :half] * angles.sin() + x[..., half:] * angles.cos()
    return x


@apply_rope.wrong("sine and cosine are swapped")
def sine_first(x, positions, theta):
    angles = angles_of(positions, x.shape[-1], theta)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * angles.sin() - b * angles.cos(), a * angles.cos() + b * angles.sin()), dim=-1)


@apply_rope.wrong("it ignores theta")
def ten_thousand(x, positions, theta):
    return turned(x, positions, 10_000.0)


@apply_rope.wrong("it stops with ")
def no_dimensions_in_front(x, positions, theta):
    _positions, d_head = x.shape
    return turned(x, positions, theta) if d_head else x


# ---- move_keys -----------------------------------------------------------------------------------


@move_keys.right
def by_the_library(keys, shift, theta):
    return rotate(keys, rotation_angles(torch.full((len(keys),), shift), keys.shape[-1], theta))


@move_keys.right
def one_turn_for_all(keys, shift, theta):
    d_head = keys.shape[-1]
    angles = shift * theta ** (-torch.arange(0, d_head, 2) / d_head)
    a, b = keys[:, : d_head // 2], keys[:, d_head // 2 :]
    return torch.cat([a * torch.cos(angles) - b * torch.sin(angles), a * torch.sin(angles) + b * torch.cos(angles)], 1)


def turned_to(keys, positions, theta):
    return rotate(keys, rotation_angles(positions, keys.shape[-1], theta))


@move_keys.wrong("it turns the wrong way")
def the_wrong_way(keys, shift, theta):
    return turned_to(keys, torch.full((len(keys),), -shift), theta)


@move_keys.wrong("only the difference is missing")
def turned_again(keys, shift, theta):
    return turned_to(keys, torch.arange(len(keys)) + shift, theta)


@move_keys.wrong("all of them move by the same shift")
def farther_and_farther(keys, shift, theta):
    return turned_to(keys, torch.arange(len(keys)) * shift, theta)


@move_keys.wrong("every pair turns alike")
def one_angle(keys, shift, theta):
    a, b = keys.chunk(2, dim=-1)
    cos, sin = math.cos(shift), math.sin(shift)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


@move_keys.wrong("it pairs neighbours")
def neighbouring_pairs(keys, shift, theta):
    return rotate(keys, rotation_angles(torch.full((len(keys),), shift), keys.shape[-1], theta), "neighbours")


@move_keys.wrong("it moves the rows")
def rolls(keys, shift, theta):
    return keys.roll(shift, dims=0)


@move_keys.wrong("it turns by one step")
def one_step(keys, shift, theta):
    return turned_to(keys, torch.ones(len(keys), dtype=torch.long), theta)


@move_keys.wrong("it ignores theta")
def always_ten_thousand(keys, shift, theta):
    return turned_to(keys, torch.full((len(keys),), shift), 10_000.0)


@move_keys.wrong("come back as they were")
def nothing_to_do(keys, shift, theta):
    return keys.clone()


@move_keys.wrong("it adds the shift to the numbers")
def adds(keys, shift, theta):
    return keys + shift


@move_keys.wrong("it returns the shape")
def first_key_only(keys, shift, theta):
    return turned_to(keys[:1], torch.full((1,), shift), theta) if len(keys) > 1 else keys[:0].new_zeros(1, 1, 2)
