"""Lesson 13: the generation loop, what a cache keeps, text that stops at a string, and a guess that is judged."""

import zlib
from collections.abc import Callable

import torch

from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.lessons.tools import counted, crash_said, draw, shuffled, vectors

# ---- generate_loop --------------------------------------------------------------------------------

VOCAB = 40


def loop(run, prompt, choose, max_new_tokens, stop_ids):
    new, ids, cache = [], prompt, None
    while len(new) < max_new_tokens:
        scores, cache = run(ids, cache)
        chosen = choose(scores)
        if chosen in stop_ids:
            break
        new.append(chosen)
        ids = [chosen]
    return new


def a_model(random, log: list | None = None) -> Callable:
    """A stand-in for a model: its scores depend on every id that it has been sent, and on their order.

    What its cache holds is the ids so far. It keeps nothing itself, so it says the same to whoever asks.
    """
    salt = draw(random, 0, 10**9)

    def run(ids, cache):
        ids = [int(id) for id in ids]
        if log is not None:
            log.append((ids, cache))
        seen = (*(cache or ()), *ids)
        source = torch.Generator().manual_seed(zlib.crc32(repr((salt, seen)).encode()))
        return torch.randn(VOCAB, generator=source), seen

    return run


def scripted(prompt, plan):
    """A stand-in for a model after which `choose` takes the ids of the plan, one after the other, and then 1."""

    def run(ids, cache):
        seen = (*(cache or ()), *(int(id) for id in ids))
        scores, place = torch.ones(VOCAB), len(seen) - len(prompt)
        scores[plan[place] if 0 <= place < len(plan) else 1] = 0
        return scores, seen

    return run


def choose(scores):
    """Not the largest score: somebody who looks for that one alone has not asked `choose`."""
    return int(scores.argmin())


def some_ids(random, n):
    return shuffled(random, range(VOCAB))[:n]


NEVER = frozenset({VOCAB})  # a stop id that no model here can choose


def telling(random, n_prompt, n_new, log=None):
    """A model, a prompt, and its continuation without a stop: no id comes twice, so each place is told apart."""
    while True:
        run, prompt = a_model(random, log), some_ids(random, n_prompt)
        new = loop(run, prompt, choose, n_new, NEVER)
        if len({*prompt, *new}) == n_prompt + n_new:
            return run, prompt, new


def as_many_as_asked(generate_loop, random):
    """as many tokens as were asked for, each chosen from the scores after all before it"""
    sizes = ((1, 2), (3, 5), (2, 1), (draw(random, 3, 5), draw(random, 7, 8)), (2, 0))
    cases = [(telling(random, n_prompt, max(n_new, 1)), n_new) for n_prompt, n_new in sizes]
    generate_loop.compare([(run, prompt, choose, n_new, {*NEVER}) for (run, prompt, _), n_new in cases])
    plans = ([7, 7, 7], [0, 5, 0, 5], [3, 0, 3, 3])  # ids that come again, those of the prompt too, and the id 0
    generate_loop.compare([(scripted([3, 0], plan), [3, 0], choose, len(plan), {*NEVER}) for plan in plans])


def a_stop_id_ends_it(generate_loop, random):
    """a stop id ends the text, and is not in the answer; a stop id in the prompt ends nothing"""
    given = []
    for n_prompt, place in ((2, 2), (3, 0), (4, 4)):
        run, prompt, new = telling(random, n_prompt, 8)
        others = [id for id in some_ids(random, 9) if id not in (*prompt, *new)][:1]
        given.append((run, prompt, choose, 7, {new[place], *others}))
    run, prompt, new = telling(random, 3, 8)
    given.append((run, prompt, choose, 6, {prompt[-1], prompt[0], new[3]}))
    generate_loop.compare(given)
    at_0 = [
        (scripted([5, 2], [4, 4, 0, 6, 6]), [5, 2], choose, 5, {0}),
        (scripted([5], [0, 6]), [5], choose, 2, {0, 9}),
    ]
    generate_loop.compare(
        [*at_0, (scripted([0, 5], [0, 6, 5]), [0, 5], choose, 3, {5}), (run, prompt, choose, 3, set())]
    )


def each_token_once(generate_loop, random):
    """the prompt goes through the model in one run, each new token in one of its own, and none that nobody needs"""
    log = []
    run, prompt, new = telling(random, 4, 6, log)
    for stop, made in (({new[4]}, new[:4]), ({*NEVER}, new)):
        given = (run, prompt, choose, 6, stop)
        generate_loop.compare([given])
        log.clear()
        choose_counted, chosen = counted(choose)
        generate_loop.answer(run, prompt, choose_counted, 6, stop)
        sent = [ids for ids, _ in log]
        shown = f"for the prompt {prompt} and the new ids {made} the runs were {', '.join(map(str, sent))}"
        if sent[0] != prompt:
            raise Wrong("the prompt goes through the model in pieces: one run can take it whole", shown)
        if any(len(ids) > 1 for ids in sent[1:]):
            raise Wrong(
                "it sends tokens again that the cache holds: after the prompt, each run takes one new id", shown
            )
        if [*stop] in sent:
            raise Wrong("it sends the stop id through the model: look whether it is one before you run it", shown)
        if made == new and sent == [prompt, *([id] for id in new)]:
            raise Wrong("it sends the last token through the model, and nothing is chosen from its row", shown)
        if len(sent) > len(made) + (made != new):
            raise Wrong("it runs the model more often than there are tokens: one run for each is enough", shown)
        if len(chosen) > len(made) + (made != new):
            raise Wrong(
                "it asks `choose` more often than once a token: where the choice is drawn, the second one is another",
                f"for {len(made)} new ids it asked {len(chosen)} times",
            )


def loop_by(
    first=lambda run, prompt: run(prompt, None),
    then=lambda run, prompt, new, cache: run(new[-1:], cache),
    pick=lambda choose, scores: choose(scores),
    more=lambda prompt, new, n: len(new) < n,
    give=lambda prompt, new: new,
    stop="before",
):
    """A loop that differs in one step from the right one."""

    def formula(run, prompt, choose, max_new_tokens, stop_ids):
        new = []
        scores, cache = first(run, prompt)
        if stop == "prompt" and prompt[-1] in stop_ids:
            return new
        while more(prompt, new, max_new_tokens):
            chosen = pick(choose, scores)
            if chosen in stop_ids and stop == "before":
                break
            new.append(chosen)
            if chosen in stop_ids and stop in ("after", "prompt"):
                return give(prompt, new[:-1] if stop == "prompt" else new)
            scores, cache = then(run, prompt, new, cache)
        return give(prompt, [id for id in new if id not in stop_ids] if stop == "left out" else new)

    return formula


def keeps_the_first_cache(run, prompt, choose, max_new_tokens, stop_ids):
    scores, first = run(prompt, None)
    new = []
    while len(new) < max_new_tokens:
        chosen = choose(scores)
        if chosen in stop_ids:
            break
        new.append(chosen)
        scores, _ = run([chosen], first)
    return new


def goes_on(counted):
    """`continue` where `break` is meant, in a loop over steps or until there are tokens enough."""

    def formula(run, prompt, choose, max_new_tokens, stop_ids):
        new, ids, cache, steps = [], prompt, None, 0
        while (steps if counted else len(new)) < max_new_tokens:
            scores, cache = run(ids, cache)
            steps += 1
            chosen = choose(scores)
            if chosen in stop_ids:
                continue
            new.append(chosen)
            ids = [chosen]
        return new

    return formula


def ended_early(when):
    """A loop that `when(chosen, prompt, new)` ends, too."""

    def formula(run, prompt, choose, max_new_tokens, stop_ids):
        new = loop(run, prompt, choose, max_new_tokens, stop_ids)
        ends = (i for i, id in enumerate(new) if when(id, prompt, new[:i]))
        return new[: next(ends, None)]

    return formula


LOOP_MISTAKES = {
    "it ends where an id comes again: that ends nothing, only a stop id does": ended_early(
        lambda chosen, prompt, new: chosen in new
    ),
    "it ends where an id of the prompt comes again: that ends nothing, only a stop id does": ended_early(
        lambda chosen, prompt, new: chosen in prompt
    ),
    "the id 0 is an id like any other: it ends nothing, and is no sign for “none”": ended_early(
        lambda chosen, prompt, new: chosen == 0
    ),
    "the prompt is in the answer: the new ids alone are asked for": loop_by(give=lambda prompt, new: prompt + new),
    "it makes one token too many": loop_by(more=lambda prompt, new, n: len(new) <= n),
    "it makes one token too few": loop_by(more=lambda prompt, new, n: len(new) < n - 1),
    "it counts the prompt among the new tokens: max_new_tokens is how many come after it": loop_by(
        more=lambda prompt, new, n: len(prompt) + len(new) < n
    ),
    "it makes a token even where none is asked for: look at max_new_tokens before you choose": loop_by(
        more=lambda prompt, new, n: len(new) < max(n, 1)
    ),
    "it takes the largest score itself: who chooses is `choose`": loop_by(
        pick=lambda choose, scores: int(scores.argmax())
    ),
    "from the second run on the model sees the last token alone: hand on the cache that `run` gave": loop_by(
        then=lambda run, prompt, new, cache: run(new[-1:], None)
    ),
    "it hands on the first cache each time: every run gives back a new one, which holds more": keeps_the_first_cache,
    "it sends ids that the cache holds already, so the model reads them twice: send the new id alone": loop_by(
        then=lambda run, prompt, new, cache: run(prompt + new, cache)
    ),
    "it sends all the new ids each time, though the cache holds all but the last": loop_by(
        then=lambda run, prompt, new, cache: run(new, cache)
    ),
    "the model sees the prompt's last token alone: the first run takes the whole prompt": loop_by(
        first=lambda run, prompt: run(prompt[-1:], None)
    ),
    "the stop id is in the answer: it ends the text, and is no part of it": loop_by(stop="after"),
    "it does not stop at a stop id": loop_by(stop="never"),
    "it leaves stop ids out and goes on: the first one ends the text": loop_by(stop="left out"),
    "at a stop id it goes on with the next step, and sends the same ids again: `break` ends a loop": goes_on(True),
    "at a stop id it sends the same ids again until it has tokens enough: `break` ends a loop": goes_on(False),
    "a stop id at the end of the prompt ends it: only a chosen one does": loop_by(stop="prompt"),
}

# ---- append_to_cache ------------------------------------------------------------------------------


def extend(kept, keys, values):
    if kept is None:
        return keys, values
    return torch.cat((kept[0], keys), dim=2), torch.cat((kept[1], values), dim=2)


def layer(random, batch, heads, old, new, width):
    """What a layer has kept, and what is new: keys and values that are all different."""
    kept = vectors(random, 2, batch, heads, old, width)
    fresh = vectors(random, 2, batch, heads, new, width)
    return (kept[0], kept[1]), fresh[0], fresh[1]


def nothing_kept_yet(append_to_cache, random):
    """nothing is kept yet: the new keys and values are all there is"""
    append_to_cache.compare([(None, *layer(random, 1, heads, 1, new, 3)[1:]) for heads, new in ((1, 2), (2, 3))])


def behind_what_is_kept(append_to_cache, random):
    """new positions stand behind those that are kept, in every text and every head"""
    n = draw(random, 2, 3)  # as many new ones as old ones, so that joining them the wrong way does not crash
    append_to_cache.compare([layer(random, 1, 1, 2, 2, 1), layer(random, 2, 3, n, n, 2), layer(random, 2, 1, 3, 3, 4)])


def one_more_position(append_to_cache, random):
    """one position after many, many after one: all are kept"""
    sizes = ((4, 1), (draw(random, 5, 9), 1), (1, draw(random, 3, 5)), (3, 2))
    append_to_cache.compare([layer(random, 2, 2, old, new, 3) for old, new in sizes])


def extend_by(along=2, order=lambda kept, new: (kept, new), pair=lambda keys, values: (keys, values)):
    def formula(kept, keys, values):
        if kept is None:
            return pair(keys, values)
        joined = (torch.cat(order(old, new), dim=along) for old, new in zip(kept, (keys, values), strict=True))
        return pair(*joined)

    return formula


def only_later(formula):
    """A slip that shows when something is kept already."""
    return lambda kept, keys, values: (keys, values) if kept is None else formula(kept, keys, values)


def stacked(dim):
    return only_later(
        lambda kept, keys, values: (torch.stack((kept[0], keys), dim), torch.stack((kept[1], values), dim))
    )


STACKED = "it stacks old and new, which makes one more dimension: `torch.cat` joins along one that is there"
CACHE_MISTAKES = {
    "it joins the heads (dim=1): positions are the third dimension, dim=2": extend_by(along=1),
    "it joins the texts of the batch (dim=0): positions are the third dimension, dim=2": extend_by(along=0),
    "it joins the numbers of a position (dim=3): positions are the third dimension, dim=2": extend_by(along=3),
    "the new positions stand in front: they are the latest, and belong behind": extend_by(
        order=lambda kept, new: (new, kept)
    ),
    "what was kept is lost: it gives the new positions alone": only_later(lambda kept, keys, values: (keys, values)),
    "the new positions are not there: it gives what was kept": only_later(lambda kept, keys, values: kept),
    "keys and values have changed places: keys come first": extend_by(pair=lambda keys, values: (values, keys)),
    "its values are the keys once more": extend_by(pair=lambda keys, values: (keys, keys)),
    "its keys are the values": extend_by(pair=lambda keys, values: (values, values)),
    "it adds the numbers up: new positions stand behind the others, and change none of them": only_later(
        lambda kept, keys, values: (kept[0] + keys, kept[1] + values)
    ),
    "of several new positions it keeps the last one alone": extend_by(order=lambda kept, new: (kept, new[:, :, -1:])),
    "only the keys grow: the new values are missing": only_later(
        lambda kept, keys, values: (torch.cat((kept[0], keys), dim=2), kept[1])
    ),
    "the new values stand behind the old keys: kept[0] are the keys, kept[1] the values": only_later(
        lambda kept, keys, values: (torch.cat((kept[0], keys), dim=2), torch.cat((kept[0], values), dim=2))
    ),
    STACKED: stacked(0),
    STACKED + ", and positions are dim=2": stacked(2),
}

# ---- stop_text ------------------------------------------------------------------------------------

WORDS = ("the dog", " ran", " up", "hill", " and", "cat", " six", " kites", "ball.")
STOPS = ("\nQ:", "<end>", "##!", "\n\n-")


def pass_on(held, piece, stop):
    text = held + piece
    if stop in text:
        return text[: text.index(stop)], "", True
    n = beginning(text, stop)
    return text[: len(text) - n], text[len(text) - n :], False


def beginning(text, stop):
    """How many characters at the end of the text could be the beginning of the stop string: the most."""
    return next(n for n in range(len(stop) - 1, -1, -1) if text.endswith(stop[:n]))


def word(random):
    return WORDS[draw(random, 0, len(WORDS) - 1)]


def harmless(stop_text, random):
    """what cannot belong to the stop string is shown at once, with what was held back before"""
    given = [("", word(random), stop) for stop in STOPS]
    # with characters of the stop string in them, where they begin nothing
    alike = (("end", "<end>"), ("a > b", "<end>"), ("# 1", "##!"), ("!", "##!"), ("Q: ", "\nQ:"), ("nd", "<end>"))
    given += [("", text, stop) for text, stop in (*alike, ("{x}.$", ".*"), ("a\\b", "\\d"), ("5", "\\d"))]
    given += [(stop[: draw(random, 1, 2)], word(random), stop) for stop in shuffled(random, STOPS)]
    stop_text.compare(given)


def stops(stop_text, random):
    """the stop string ends the text, wherever it begins; neither it nor what comes after is shown"""
    given = []
    for stop in shuffled(random, STOPS):
        given.append(("", word(random) + stop + word(random), stop))
        cut = draw(random, 1, len(stop) - 1)
        given.append((stop[:cut], stop[cut:] + word(random), stop))
        given.append((stop[:1], word(random) + stop, stop))
        given.append(("", f"{word(random)}{stop}{word(random)}{stop}{word(random)}", stop))
    given += [
        ("aa", "ab", "aab"),
        ("aba", "bac", "abac"),
        ("", "a.*b", ".*"),
        ("(", ")", "()"),
        ("", "<<end>>", "<end>"),
    ]
    stop_text.compare(given)


def held_back(stop_text, random):
    """what could be the beginning of the stop string is held back, and nothing else"""
    given = []
    for stop in STOPS:
        given += [("", word(random) + stop[:n], stop) for n in range(1, len(stop))]
        given.append((stop[:1], stop[1:2], stop))
        given.append((stop[:2], word(random) + stop[:1], stop))
    given += [
        ("", "ababa", "abac"),
        ("aa", "a", "aab"),
        ("", "send <en", "<end>"),
        ("<", "<", "<end>"),
        ("", "..", ".*"),
    ]
    given.append(("", f"{word(random)}\n\n", "\n\n-"))  # one line break, or both?
    given.append(("\n", "\n\n", "\n\n-"))
    given.append(("", word(random), "<end>"))
    stop_text.compare(given)


def short_stops(stop_text, random):
    """a stop string of one character, which has no beginning that could wait"""
    given = []
    for stop, said in (("#", word(random)), ("\n", word(random)), ("|", f"{word(random)} 1")):
        given += [("", said, stop), ("", said + stop, stop), ("", f"{said}{stop}{word(random)}{stop}", stop)]
        given.append(("", stop, stop))
    stop_text.compare(given)


def empty_pieces(stop_text, random):
    """an empty piece, as half a character gives one: what was held back goes on waiting"""
    given = [("", "", stop) for stop in (*STOPS, "#")]
    given += [(stop[:n], "", stop) for stop in shuffled(random, STOPS) for n in range(1, len(stop))]
    made = {
        "an empty piece makes it forget what it holds back": lambda held, piece, stop: ("", "", False),
        "an empty piece makes it show what it holds back": lambda held, piece, stop: (held, "", False),
    }
    stop_text.compare(given, made)


def pass_by(text=lambda held, piece: held + piece, find=str.find, cut=lambda stop: 0, n=beginning, after=None):
    """A rule that differs in one step from the right one."""

    def formula(held, piece, stop):
        whole = text(held, piece)
        place = find(whole, stop)
        if place >= 0:
            shown = whole[: place + cut(stop)]
            return (shown, "", True) if after is None else after(shown, whole, place, stop)
        keep = min(n(whole, stop), len(whole))
        return whole[: len(whole) - keep], whole[len(whole) - keep :], False

    return formula


def from_its_first_character(text, stop):
    place = text.find(stop[0])
    return len(text) - place if place >= 0 else 0


def shortest_beginning(text, stop):
    return next((n for n in range(1, len(stop)) if text.endswith(stop[:n])), 0)


def held_by_characters(held, piece, stop):
    text = held + piece
    if stop in text:
        return pass_on(held, piece, stop)
    end = len(text)
    while end and text[end - 1] in stop[:-1] and len(text) - end < len(stop) - 1:
        end -= 1
    return text[:end], text[end:], False


STOP_MISTAKES = {
    "it holds back what has a character of the stop string: only a *beginning* of it may wait": held_by_characters,
    "it looks in the new piece alone: a stop string may begin in what was held back": lambda held, piece, stop: (
        (held + piece[: piece.index(stop)], "", True)
        if stop in piece
        else (held + piece[: len(piece) - beginning(piece, stop)], piece[len(piece) - beginning(piece, stop) :], False)
    ),
    "what was held back is lost: it belongs in front of the piece": pass_by(text=lambda held, piece: piece),
    "it puts what was held back behind the piece": pass_by(text=lambda held, piece: piece + held),
    "the stop string itself is shown": pass_by(cut=len),
    "what comes after the stop string is shown": pass_by(
        after=lambda shown, whole, place, stop: (whole.replace(stop, ""), "", True)
    ),
    "it stops at the last place of the stop string: the first one counts": pass_by(find=str.rfind),
    "it holds back the stop string: the text has ended, and the second answer is an empty text": pass_by(
        after=lambda shown, whole, place, stop: (shown, whole[place:], True)
    ),
    "it holds back what is after the stop string: the text has ended, and the second answer is an empty text": pass_by(
        after=lambda shown, whole, place, stop: (shown, whole[place + len(stop) :], True)
    ),
    "it finds the stop string and does not say that the text has ended": pass_by(
        after=lambda shown, whole, place, stop: (shown, "", False)
    ),
    "when it finds the stop string it shows nothing, not even what stands before it": pass_by(
        after=lambda shown, whole, place, stop: ("", "", True)
    ),
    "it holds nothing back: the beginning of a stop string is shown before the rest comes": pass_by(
        n=lambda text, stop: 0
    ),
    "it holds everything back until the stop string comes": pass_by(n=lambda text, stop: len(text)),
    "it always holds back as many characters as the stop string has, less one, whatever they are": pass_by(
        n=lambda text, stop: len(stop) - 1
    ),
    "it ends the text only where the text ends with the stop string: that may stand within it": pass_by(
        find=lambda text, stop: len(text) - len(stop) if text.endswith(stop) else -1
    ),
    "it ends the text only where the text is the stop string and nothing else: look whether it is in it": pass_by(
        find=lambda text, stop: 0 if text == stop else -1
    ),
    "it holds back all from the first character that could begin the stop string: the end of the text counts": pass_by(
        n=from_its_first_character
    ),
    "it never holds back all of the stop string but its last character: up to len(stop) − 1 characters can wait": (
        pass_by(n=lambda text, stop: next(n for n in range(max(len(stop) - 2, 0), -1, -1) if text.endswith(stop[:n])))
    ),
    "it never holds back a single character: one can be the beginning, too": pass_by(
        n=lambda text, stop: beginning(text, stop) if beginning(text, stop) > 1 else 0
    ),
    "what was held back is shown twice": lambda held, piece, stop: (
        held + pass_on(held, piece, stop)[0],
        *pass_on(held, piece, stop)[1:],
    ),
    "at the end it shows what was held back, and not what stands before the stop string": lambda held, piece, stop: (
        (held, "", True) if stop in held + piece else pass_on(held, piece, stop)
    ),
    "it holds the shortest beginning back: the longest is the one to wait for": pass_by(n=shortest_beginning),
    "it holds the whole text back when its end could begin the stop string: that end is enough": pass_by(
        n=lambda text, stop: len(text) if beginning(text, stop) else 0
    ),
    "it shows what it holds back": lambda held, piece, stop: (
        pass_on(held, piece, stop) if stop in held + piece else (held + piece, *pass_on(held, piece, stop)[1:])
    ),
}

# ---- accept_or_reject -----------------------------------------------------------------------------


def judge(target, draft, token, u, v):
    if u < target[token] / draft[token]:
        return token
    return thrown((target - draft).clamp(min=0), v)


def thrown(chances, v):
    """The first id at which the running sum of the shares passes v."""
    sums = chances.cumsum(0)
    return int((sums / sums[-1] > v).int().argmax())


# in 64ths, so that sums are exact: the draft thinks too much of the last three tokens
TARGET, DRAFT = (28, 24, 4, 6, 2), (18, 8, 18, 14, 6)


def two_models(random):
    """Target and draft over five tokens in some order, and which are the over- and which the underrated ones."""
    order = shuffled(random, range(5))
    tables = [torch.tensor([table[i] for i in order], dtype=torch.float64) / 64 for table in (TARGET, DRAFT)]
    return *tables, [order.index(i) for i in range(5)]


def inputs_that_tell(random, make, mistakes):
    """Inputs on which each of these mistakes shows, and no two of them look alike."""
    while True:
        inputs = make(random)
        right = tuple(judge(*given) for given in inputs)
        answers = {tuple(JUDGE_MISTAKES[says](*given) for given in inputs) for says in mistakes}
        if len(answers | {right}) == len(mistakes) + 1:
            return inputs


def guesses_to_keep(random):
    given = []
    for u, v in ((0.03, 0.5), (0.15, 0.9), (0.2, 0.1), (0.26, 0.7), (0.35, 0.25), (0.7, 0.8), (0.93, 0.5)):
        target, draft, places = two_models(random)
        for place in places:
            if u * draft[place] < target[place]:
                given.append((target, draft, place, u, v))
    return given


def guesses_to_refuse(random):
    given = borders(random)
    for u, v in ((0.5, 0.1), (0.6, 0.25), (0.7, 0.5), (0.8, 0.7), (0.9, 0.85), (0.97, 0.95), (0.45, 0.55)):
        target, draft, (*_, a, b, c) = two_models(random)
        given += [(target, draft, place, u, v) for place in (a, b, c)]
    return given


def borders(random):
    """u at target / draft or v at a running sum, exactly: in powers of two, which any way to compute has exactly.

    The first id, the guess, has nothing in excess: even with v = 0 it is not drawn.
    """
    given = []
    for few, more in zip(shuffled(random, (2, 4, 8)), shuffled(random, (6, 10, 14)), strict=True):
        draft = torch.tensor([16, more, 30 - more, 18], dtype=torch.float64) / 64
        target = torch.tensor([few, more + 4, 42 - more, 18 - few], dtype=torch.float64) / 64
        for u, v in ((few / 16, 0.5), (few / 16, 0.1), (0.9, 0.0), (0.9, 0.25)):
            given.append((target, draft, 0, u, v))
    return given


def with_a_small_v(random):
    """Refused guesses, and v so small that shares which are not divided, or not summed up, have a place for it."""
    given = []
    for i, v in enumerate((0.02, 0.05, 0.1, 0.15, 0.2, 0.25, *[0.3] * 3, *[0.35] * 5, *[0.4] * 5)):
        order = shuffled(random, range(5))
        if i == 0:  # the first difference is negative: divided by a sum of 0, no running sum is above v
            order.sort(key=lambda place: place != 3)
        target, draft = ([table[i] for i in order] for table in ((20, 12, 16, 8, 8), (10, 1, 1, 26, 26)))
        tables = [torch.tensor(table, dtype=torch.float64) / 64 for table in (target, draft)]
        given.append((*tables, order.index(3 + i % 2), 0.5 + 0.02 * i, v))
    return given


def kept(accept_or_reject, random):
    """a guess is kept with the chance target / draft: always, where the target gives it more"""
    try:
        accept_or_reject.compare(inputs_that_tell(random, guesses_to_keep, OF_KEEPING))
    except Wrong as wrong:
        others = with_a_small_v(random)
        if wrong.sentence == REFUSE and all(accept_or_reject.answer(*given) == given[2] for given in others):
            accept_or_reject.made[SWAPPED] = judge_by(keep=lambda p, q, u: u * q > p)
            raise Wrong(SWAPPED, wrong.shown) from None
        raise


def replaced(accept_or_reject, random):
    """a guess that is refused is replaced by a draw from what the target has in excess"""
    inputs = inputs_that_tell(random, with_a_small_v, OF_REPLACING)
    for begin, sentence in ((inputs[:5], NEGATIVE), (inputs, PAST_THE_END)):  # the smallest v first
        try:
            for given in begin:
                accept_or_reject.answer(*given)
        except Wrong as wrong:
            if any(piece in wrong.sentence for piece in ("out of bounds", "out of range")):
                raise Wrong(sentence, wrong.shown) from None
            raise
    accept_or_reject.compare(inputs)
    accept_or_reject.compare(inputs_that_tell(random, guesses_to_refuse, (*OF_REPLACING, *AT_BORDERS)))


def judge_by(keep=lambda p, q, u: u * q < p, left=lambda p, q: (p - q).clamp(min=0), take=thrown, second=None):
    """A rule that differs in one step from the right one."""

    def formula(target, draft, token, u, v):
        if keep(target[token], draft[token], u):
            return token
        return take(left(target, draft), u if second else v)

    return formula


def not_scaled(chances, v):
    """What is left does not sum to 1, and a large v finds no place in it: argmax then says 0."""
    return int((chances.cumsum(0) > v).int().argmax())


def from_the_other_tokens(target, draft, token, u, v):
    others = target.clone()
    others[token] = 0
    return token if u * draft[token] < target[token] else thrown(others, v)


KEEP = "the draft's guess is always kept: keep it with the chance target / draft"
REFUSE = "it refuses every guess that should be kept: keep it where u is below target / draft"
SWAPPED = "it keeps what it should refuse, and refuses what it should keep: keep it where u is *below* target / draft"
PAST_THE_END = "no running sum is above v: divided by the last of them, they end at 1"
NEGATIVE = "where the draft has more, a negative share is left, and all shares sum to 0: what is below 0 becomes 0"
JUDGE_MISTAKES = {
    KEEP: lambda target, draft, token, u, v: token,
    REFUSE: judge_by(keep=lambda p, q, u: False),
    "it keeps a guess only where the target gives it at least as much as the draft: with less, there is a chance": (
        judge_by(keep=lambda p, q, u: p >= q)
    ),
    "the quotient is upside down: the chance is target / draft": judge_by(keep=lambda p, q, u: u * p < q),
    "it keeps the guess with the target's probability: divide it by the draft's": judge_by(keep=lambda p, q, u: u < p),
    "it keeps the guess with the draft's probability: the chance is target / draft": judge_by(
        keep=lambda p, q, u: u < q
    ),
    "a refused guess is replaced by a draw from the whole target: from what it has in excess, target − draft": (
        judge_by(left=lambda p, q: p)
    ),
    "a refused guess is replaced by a draw from the draft: from the target's excess, target − draft": judge_by(
        left=lambda p, q: q
    ),
    "it draws from what the draft has in excess: target − draft is what is missing": judge_by(
        left=lambda p, q: (q - p).clamp(min=0)
    ),
    "it takes the size of the difference: where the draft has more, nothing is left (0)": judge_by(
        left=lambda p, q: (p - q).abs()
    ),
    "what is left does not sum to 1 yet, and it is drawn from as it is: divide it by its sum": judge_by(
        take=not_scaled
    ),
    "it looks for a single share above v: the running sum is to be above it (`cumsum`)": judge_by(
        take=lambda chances, v: int((chances / chances.sum() > v).int().argmax())
    ),
    NEGATIVE: judge_by(left=lambda p, q: p - q),
    NEGATIVE + ", and then divide by the sum": judge_by(left=lambda p, q: p - q, take=not_scaled),
    "it draws from all that the target gives to the other tokens: from what it has in excess, target − draft": (
        from_the_other_tokens
    ),
    "it takes the largest of what is left: draw, with v": judge_by(take=lambda chances, v: int(chances.argmax())),
    "it draws with u, which has been used: v is the number for the second draw": judge_by(second=True),
    "a refused guess is replaced by the target's favourite: draw from its excess, with v": judge_by(
        left=lambda p, q: p, take=lambda chances, v: int(chances.argmax())
    ),
}
AT_BORDERS = {
    "it keeps a guess where u is exactly target / draft: u has to be below": judge_by(keep=lambda p, q, u: u * q <= p),
    "it takes the id at which the running sum reaches v: it has to be above v, or v = 0 draws what has no share": (
        judge_by(take=lambda chances, v: int((chances.cumsum(0) / chances.sum() >= v).int().argmax()))
    ),
}
OF_KEEPING, OF_REPLACING = tuple(JUDGE_MISTAKES)[1:6], (KEEP, *tuple(JUDGE_MISTAKES)[6:])
JUDGE_MISTAKES |= AT_BORDERS


EXERCISES = (
    Exercise(
        name="generate_loop",
        lesson="13",
        title="predict, choose, append, repeat",
        oracle=loop,
        checks={
            "tokens": (
                crash_said(
                    as_many_as_asked,
                    ("not iterable", "must be an iterable"),
                    "`run` takes a list of ids, and got a single one: send [chosen]",
                ),
            ),
            "stop": (a_stop_id_ends_it,),
            "cache": (each_token_once,),
        },
        mistakes=LOOP_MISTAKES,
        hints=(
            "Let the loop begin with the run, as `write_with_cache` does: run, choose, look whether it is a stop id, "
            "append. Then nothing is run from which nothing is chosen.",
            "Before the loop `ids, cache = prompt, None`. In it `scores, cache = run(ids, cache)`: the first time this "
            "is prefill; later, with `ids = [chosen]`, a decode step.",
            "`while len(new) < max_new_tokens:` run; choose from `scores`; `if chosen in stop_ids: break`; "
            "`new.append(chosen)`; `ids = [chosen]`. In the end `return new`.",
        ),
    ),
    Exercise(
        name="append_to_cache",
        lesson="13",
        title="keep the new keys and values",
        oracle=extend,
        checks={
            "first": (nothing_kept_yet,),
            "later": (
                crash_said(
                    behind_what_is_kept,
                    ("NoneType", "expected Tensor as element"),
                    "it does not take `kept` apart: it is a pair of tensors, kept[0] the keys and kept[1] the values",
                ),
                one_more_position,
            ),
        },
        mistakes=CACHE_MISTAKES,
        hints=(
            "Two cases. Where nothing is kept (`kept is None`), the new keys and values are all. Else they go behind "
            "the kept ones.",
            "`torch.cat((old, new), dim=…)` joins two tensors along one dimension. The shape is (batch, kv_heads, "
            "position, d_head), counted from 0: which number is the position's?",
            "`old_keys, old_values = kept`, then "
            "`return torch.cat((old_keys, keys), dim=2), torch.cat((old_values, values), dim=2)`.",
        ),
    ),
    Exercise(
        name="stop_text",
        lesson="13",
        title="stop at a string, across token borders",
        oracle=pass_on,
        checks={"shown": (harmless,), "stops": (stops,), "held": (held_back, short_stops, empty_pieces)},
        mistakes=STOP_MISTAKES,
        hints=(
            "Put what was held back and the new piece together first. Then two questions: is the stop string in it? "
            "And if not, could its end be the stop string's beginning?",
            "`text.endswith(stop[:n])` says whether the last n characters are the stop string's first n. Try n from "
            "len(stop) − 1 down to 1: the first that fits is the longest.",
            "If `stop in text`: `return text[: text.index(stop)], '', True`. Then a loop over n, with "
            "`return text[:-n], text[-n:], False` for the first n that fits. After the loop nothing is held back: "
            "`return text, '', False`.",
        ),
    ),
    Exercise(
        name="accept_or_reject",
        lesson="13",
        title="judge a draft's guess",
        oracle=judge,
        checks={
            "kept": (kept,),
            "replaced": (replaced,),
        },
        mistakes=JUDGE_MISTAKES,
        hints=(
            "Two steps. Keep the guess if u is below target / draft, both at the guessed token. Else draw another: "
            "from what the target has more than the draft, and 0 where it has less.",
            "`left = (target - draft).clamp(min=0)`. To draw with v: the running sums are `sums = left.cumsum(0)`; "
            "divided by the last of them they end at 1, and the first id whose sum is above v is drawn.",
            "`if u < target[token] / draft[token]: return token`. Then `sums = left.cumsum(0)` and "
            "`return int((sums / sums[-1] > v).nonzero()[0])`.",
        ),
    ),
)
