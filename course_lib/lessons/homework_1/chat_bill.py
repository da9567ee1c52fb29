"""Homework 1: what a conversation costs, in five vocabularies."""

import functools
from math import inf

from course_lib.classroom.exercise import Exercise
from course_lib.lessons.tools import draw, some
from course_lib.pretrained.vocabularies import NAMES, load_tokenizer


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
    cheap = dict.fromkeys(encoders, (0.04, 0.15))
    bill.compare(
        [
            ([("ab", "c")], encoders, cheap, 4096, 1),
            ([("", "c")], encoders, cheap, 9, 3),
            ([("a", "")], encoders, cheap, 1, 1),
        ]
    )
    order = dict(reversed(encoders.items()))  # the order of a dict says nothing
    bill.compare((lines, order, dict(sorted(prices.items())), *rest) for lines, _, prices, *rest in few)


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
    tolerance=0.0,
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
