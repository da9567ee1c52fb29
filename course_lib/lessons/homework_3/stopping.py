"""Homework 3: when to stop."""

import torch

from course_lib.classroom.exercise import Exercise
from course_lib.lessons.tools import draw, shuffled


def complete_first(text, stops):
    """(start, end) of the stop string that is complete first; of two that end together, the longer one."""
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return min(found)[::-1] if found else None


def begins_first(text, stops):
    found = [(text.find(stop), text.find(stop) + len(stop)) for stop in stops if stop in text]
    return min(found) if found else None


def listed_first(text, stops):
    return next(((text.find(stop), text.find(stop) + len(stop)) for stop in stops if stop in text), None)


def shorter_of_two(text, stops):
    found = [(text.find(stop) + len(stop), -text.find(stop)) for stop in stops if stop in text]
    return (-min(found)[1], min(found)[0]) if found else None


def last_place(text, stops):
    found = [(text.rfind(stop) + len(stop), text.rfind(stop)) for stop in stops if stop in text]
    return min(found)[::-1] if found else None


def at_the_end(text, stops):
    found = [(len(text) - len(stop), len(text)) for stop in stops if text.endswith(stop)]
    return min(found) if found else None


def circling(times=3, wide=lambda size, times, loop: size * times >= loop, sizes=lambda n: range(1, n + 1)):
    def found(ids, loop):
        return any(
            wide(size, times, loop) and len(ids) >= times * size and ids[-times * size :] == ids[-size:] * times
            for size in sizes(len(ids))
        )

    return found


in_circles = circling()


def stopping(
    ends=lambda id, end_ids: id in end_ids,
    with_its_end="",
    search=complete_first,
    looks_from=lambda text, piece: 0,
    cut=lambda text, start, end: text[:start],
    circles=in_circles,
    full=lambda count, text, longest: count == longest,
    order=("stop", "loop", "length"),
    run_out=None,
    end_last=False,
):
    def answer(ids, pieces, end_ids, stops, longest, loop):
        text = ""
        for count, id in enumerate(ids, 1):
            if ends(id, end_ids):
                return text + (pieces[id] if with_its_end else ""), "end"
            text += pieces[id]
            first = looks_from(text, pieces[id])
            place = search(text[first:], stops)
            now = {
                "stop": place is not None,
                "loop": circles(ids[:count], loop),
                "length": full(count, text, longest),
            }
            if end_last and id in end_ids and not now["stop"]:
                return text.removesuffix(pieces[id]), "end"
            for reason in order:
                if now[reason]:
                    if reason == "stop":
                        return cut(text, first + place[0], first + place[1]), "stop"
                    return text, reason
        return text, run_out

    return answer


where_it_stops = stopping()


SAID = (" the", " dog", " ran", " up", " hill", ".", " and", " saw", " a", " cat", ",", " then", " it", " slept")


MARKS = ("<|end|>", "<|turn|>", "\n", "\nUs", "er:", " ST", "OP", "!\n\nUser: why", "Us", "er", ":")


FAR = 99  # no loop is so long


def vocabulary(random):
    """Ids in no order, and the text of each; `name(…)` gives the ids of some texts."""
    ids = torch.randperm(60, generator=random).tolist()[: len(SAID + MARKS)]
    by_text = dict(zip(SAID + MARKS, ids, strict=True))
    return {id: text for text, id in by_text.items()}, lambda *texts: [by_text[text] for text in texts]


def at_an_end(stop, random):
    """an end id ends the text, whichever of them it is, and its own text is not said"""
    inputs = []
    for n in (2, 4, 6):
        pieces, name = vocabulary(random)
        said, (end, turn) = shuffled(random, name(*SAID)), name("<|end|>", "<|turn|>")
        for mark in (end, turn):
            inputs.append(([*said[:n], mark, *said[n:8]], pieces, [end, turn], [], 20, FAR))
        inputs.append(([turn, *said[:3]], pieces, [end], ["\nUser:"], 20, FAR))
    stop.compare(inputs)
    small = {0: "<end>", 1: " a", 2: " b"}  # the id 0 as an end, and as a word
    stop.compare(
        [([1, 2, 0, 1], small, [0], [], 20, FAR), ([1, 0, 2], {0: " o", 1: " a", 2: "<end>"}, [2], [], 20, FAR)]
    )
    stop.compare([([], small, [0], [], 20, FAR), ([0], small, [0], [" a"], 20, FAR)])


def at_a_stop_string(stop, random):
    """a stop string ends the text before itself; it may begin in one token and end within another"""
    inputs = []
    for tokens, string in (
        (("\nUs", "er:"), "\nUser:"),
        (("\n", "Us", "er", ":"), "\nUser:"),
        ((" ST", "OP"), "STOP"),
        (("!\n\nUser: why",), "\nUser:"),
        (("\n", "!\n\nUser: why"), "User"),
        (("er", " ST", "OP"), "STOP"),
    ):
        pieces, name = vocabulary(random)
        said = shuffled(random, name(*SAID))
        n = draw(random, 2, 5)
        inputs.append(([*said[:n], *name(*tokens), *said[n:9]], pieces, name("<|end|>"), [string], 20, FAR))
    stop.compare(inputs)
    odd = {1: " 5", 2: " .", 3: "*", 4: "(x", 5: ")", 6: "$"}  # what would mean something in a pattern
    stop.compare((([1, 2, 3, 4, 5, 6]), odd, [], [string], 20, FAR) for string in (".*", "(x)", "$", "\\d", "x"))


def at_one_of_several(stop, random):
    """of several stop strings, or places of one, what is complete first; of two that end together, the longer one"""
    inputs = []
    for tokens, strings in (
        (("\nUs", "er:"), ["\nUser:", "Us"]),
        ((" ST", "OP", "\nUs", "er:"), ["\nUser:", "STOP"]),
        (("!\n\nUser: why",), ["!\n\nUser: w", "User"]),
        ((" ST", "OP"), ["OP", " STOP", "STOP"]),
        (("\nUs", "er:"), ["er:", "\nUser:"]),
        (("!\n\nUser: why",), ["\n"]),  # twice in one token
    ):
        pieces, name = vocabulary(random)
        said = shuffled(random, name(*SAID))
        n = draw(random, 1, 4)
        inputs.append(([*said[:n], *name(*tokens), *said[n:9]], pieces, name("<|end|>"), strings, 20, FAR))
    stop.compare(inputs)


def at_its_length(stop, random):
    """after `longest` tokens it ends; where nothing ends it, it may go on: None"""
    inputs = []
    for n in (1, 3, 7):
        pieces, name = vocabulary(random)
        said, stops = shuffled(random, name(*SAID)), ["\nUser:"]
        inputs.append((said[:n], pieces, name("<|end|>"), stops, 12, FAR))
        inputs.append((said[:12], pieces, name("<|end|>"), stops, n, FAR))
        for last in (["\nUs", "er:"], ["!\n\nUser: why"]):  # the last token that it may say completes a stop string
            ids = [*said[:n], *name(*last), *said[:4]]
            inputs.append((ids, pieces, name("<|end|>"), stops, n + len(last), FAR))
    stop.compare(inputs)


def in_a_loop(stop, random):
    """when it says the same tokens three times in a row, at least `loop` tokens together, it ends"""
    inputs = []
    for size, loop in ((1, 3), (2, 6), (2, 3), (4, 6), (1, 6), (3, 4), (1, 12), (3, 10), (2, 8)):
        pieces, name = vocabulary(random)
        said = shuffled(random, name(*SAID))
        block = said[:size]
        inputs.append(([*said[9:12], *block * 7, *block * 7], pieces, name("<|end|>"), [], 40, loop))
        twice, again = [*said[9:11], *block * 2, *said[11:]], [*block, said[6], *block * 2, *said[7:9]]
        inputs.append((twice, pieces, name("<|end|>"), [], 40, 3))
        inputs.append((again, pieces, name("<|end|>"), [], 40, 3))
    stop.compare(inputs)


def at_several_reasons(stop, random):
    """where one token gives several reasons, the first one in the list counts: end, stop, loop, length"""
    inputs = []
    for size in (1, 2, 3):
        pieces, name = vocabulary(random)
        said = shuffled(random, name(*SAID))
        block, first = said[:size], said[9 : 9 + draw(random, 1, 3)]
        ids, longest = [*first, *block * 3, *said[4:8]], len(first) + 3 * size
        thrice = "".join(pieces[id] for id in block * 3)
        inputs.append((ids, pieces, name("<|end|>"), [], longest, 3))  # a loop, and as long as it may be
        inputs.append((ids, pieces, name("<|end|>"), [thrice], 40, 3))  # a stop string, and a loop
        inputs.append((ids, pieces, name("<|end|>"), [thrice], longest, 3))
        inputs.append(([*first, *name("<|turn|>"), *said[4:8]], pieces, name("<|turn|>"), ["<|turn|>"], 40, 3))
    stop.compare(
        inputs,
        {
            "at its length it looks for no loop: where one token gives both, the loop counts": stopping(
                order=("stop", "length", "loop")
            ),
            "it looks for a loop before it looks for a stop string: where one token gives both, that counts": (
                stopping(order=("loop", "stop", "length"))
            ),
            "it looks for a stop string in the text of an end token, which is not said: the end counts": stopping(
                ends=lambda id, end_ids: False, end_last=True
            ),
        },
    )


WHERE_IT_STOPS = Exercise(
    name="where_it_stops",
    lesson="hw3",
    title="when a text is at its end, and why",
    oracle=where_it_stops,
    may_call=(),
    checks={"rule": (at_an_end, at_a_stop_string, at_one_of_several, at_its_length, in_a_loop, at_several_reasons)},
    mistakes={
        "the text of the end token is in the answer: it is a mark, and nothing that is said": stopping(
            with_its_end="yes"
        ),
        "it knows the first of the end ids only": stopping(ends=lambda id, end_ids: id in end_ids[:1]),
        "it goes on after an end id": stopping(ends=lambda id, end_ids: False),
        "it looks for a stop string in single tokens: it may begin in one and end in another": stopping(
            looks_from=lambda text, piece: len(text) - len(piece)
        ),
        "it stops only where a stop string ends with a token: it may end within one": stopping(search=at_the_end),
        "the stop string is still in the answer: the text ends before it": stopping(
            cut=lambda text, start, end: text[:end]
        ),
        "the whole text so far is the answer: it ends before the stop string": stopping(
            cut=lambda text, start, end: text
        ),
        "it cuts at the stop string that begins first: the one that is complete first counts": stopping(
            search=begins_first
        ),
        "it takes the stop string that stands first in the list: the one that is complete first counts": stopping(
            search=listed_first
        ),
        "of a stop string that comes twice it takes the last place: the text ends before the first one": stopping(
            search=last_place
        ),
        "of two stop strings that end together it takes the shorter one": stopping(search=shorter_of_two),
        "it says one token more than `longest`": stopping(full=lambda count, text, longest: count > longest),
        "it says one token less than `longest`": stopping(full=lambda count, text, longest: count == longest - 1),
        "it counts characters: `longest` is a number of tokens": stopping(
            full=lambda count, text, longest: len(text) >= longest
        ),
        "in the last token that it may say, it no longer looks for a stop string": stopping(
            order=("length", "stop", "loop")
        ),
        "where the ids run out and nothing has ended the text, the reason is None": stopping(run_out="length"),
        "where the ids run out there was no end id: the reason is None": stopping(run_out="end"),
        "it sees a loop of a single token only: several tokens may come again and again": stopping(
            circles=circling(sizes=lambda n: [1])
        ),
        "two rounds are no loop yet, though three of them would be long enough": stopping(
            circles=circling(times=2, wide=lambda size, times, loop: 3 * size >= loop)
        ),
        "twice in a row is no loop yet: three times": stopping(circles=circling(times=2)),
        "it waits for a fourth time: three times are a loop": stopping(circles=circling(times=4)),
        "it ignores `loop`: the three times together have to be at least so many tokens": stopping(
            circles=circling(wide=lambda size, times, loop: True)
        ),
        "its loops are longer than `loop`: exactly `loop` tokens are enough": stopping(
            circles=circling(wide=lambda size, times, loop: size * times > loop)
        ),
        "it compares one round with `loop`: the three rounds together count": stopping(
            circles=circling(wide=lambda size, times, loop: size >= loop)
        ),
        "it sees no loop": stopping(circles=lambda ids, loop: False),
        "text and reason are swapped: the text comes first": lambda *given: where_it_stops(*given)[::-1],
        "it gives the text alone: the reason is asked for, too": lambda *given: where_it_stops(*given)[0],
    },
    hints=(
        "A loop over the ids, and in it four questions in this order: an end id? Then, with the token's text added: a "
        "stop string complete? A loop? As many tokens as allowed?",
        "Look for stop strings in the whole text so far: they do not care about borders between tokens. For each that "
        "is in it, `start = text.find(stop)` and its end, `start + len(stop)`. The smallest (end, start) is the one.",
        "A loop, for each size m from 1: the last 3 · m ids are equal to the last m ids times three, "
        "`ids[-3 * m:] == ids[-m:] * 3`, and there are so many. Look only at the ids so far, and at sizes with "
        "3 · m ≥ loop.",
    ),
)
