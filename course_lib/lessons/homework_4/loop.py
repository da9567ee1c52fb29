"""Homework 4: the loop that writes an answer."""

import numbers

import torch

from course_lib.classroom.exercise import Exercise
from course_lib.lessons.tools import draw

VOCAB = 23


def ask_for_a_list(ids):
    """A made-up model says what it was handed, where that is not what the text promises."""
    if not isinstance(ids, list | tuple):
        raise TypeError(f"scores_of was handed an object of type {type(ids).__name__}: a list of ids is asked for")
    for id in ids:
        if not isinstance(id, numbers.Integral):
            raise TypeError(
                f"scores_of was handed a list with an object of type {type(id).__name__} in it: "
                "whole numbers are asked for, and int(…) makes one"
            )


def speaker(seed, end_at=None, tie=False):
    """A made-up model: scores (position, vocab) that depend on every id so far, and, at a length, on nothing else.

    At `end_at` ids the token 5 is the likeliest; with `tie`, two tokens share the best score, always.
    """

    def scores_of(ids):
        ask_for_a_list(ids)
        rows = []
        for n in range(1, len(ids) + 1):
            key = seed + sum((place + 3) * (id + 1) for place, id in enumerate(ids[:n]))
            row = torch.rand(VOCAB, generator=torch.Generator().manual_seed(key))
            row[5] = 2.0 if n == end_at else -1.0
            if tie:
                first, second = row[6:].topk(2).indices + 6
                row[first] = row[second] = row.max()
            rows.append(row)
        return torch.stack(rows)

    return scores_of


def answering(
    choose=lambda scores: int(scores[-1].argmax()), give=lambda prompt, new: new, keep_end=False,
    reads=lambda prompt, new: prompt + new, ends=lambda end_ids: end_ids, new_limit=lambda limit, prompt: limit,
    room=lambda context, prompt: context - len(prompt), stops_at=lambda prompt: (),
):  # fmt: skip
    def answer(scores_of, ids, end_ids, limit, context):
        ids, new = list(ids), []
        if any(id in end_ids for id in stops_at(ids)):
            return give(ids, new)
        for _ in range(max(0, min(new_limit(limit, ids), room(context, ids)))):
            chosen = choose(scores_of(reads(ids, new)))
            if chosen in ends(end_ids):
                new += [chosen] if keep_end else []
                break
            new.append(chosen)
        return give(ids, new)

    return answer


answer_ids = answering()


def prompts(random, n):
    return torch.randperm(VOCAB - 6, generator=random)[:n].add(6).tolist()


def saying(plan, n_prompt):
    """A made-up model that says the ids of the plan after a prompt of so many, and then 1."""

    def scores_of(ids):
        ask_for_a_list(ids)
        rows, place = torch.zeros(len(ids), VOCAB), len(ids) - n_prompt
        rows[-1, plan[place] if 0 <= place < len(plan) else 1] = 1.0
        return rows

    return scores_of


def seeds(random):
    return draw(random, 1, 10**6)


def goes_on(answer, random):
    """one id after the other, each from the text so far; after `limit` new ids it is over"""
    sizes = ((2, 3), (3, 6), (5, 4), (1, 0))
    answer.compare((speaker(seeds(random)), prompts(random, n), {5}, limit, 50) for n, limit in sizes)
    # ids that come again, the prompt's among them, and the id 0
    answer.compare((saying(plan, 2), [3, 0], {5}, len(plan), 50) for plan in ([7, 7, 7], [0, 6, 0, 6], [3, 0, 3, 3]))


def ends(answer, random):
    """it ends before an end id, whichever of them comes; one in the prompt ends nothing, as in every chat"""
    inputs = [(speaker(seeds(random), end_at=n + k), prompts(random, n), {0, 5}, 8, 50) for n, k in ((2, 2), (3, 4))]
    inputs.append((speaker(seeds(random), end_at=2), prompts(random, 2), {5}, 8, 50))  # at once: an empty answer
    for place, end_at in ((0, 6), (2, 7)):  # an end id in front; and the prompt's last id
        prompt = prompts(random, 3)
        prompt[place] = 5
        inputs.append((speaker(seeds(random), end_at), prompt, {5}, 8, 50))
    answer.compare(inputs)
    answer.compare(
        [
            (saying([4, 4, 0, 6], 2), [6, 2], {0}, 4, 50),
            (saying([0], 1), [0], {0, 9}, 4, 50),
            (saying([4, 6], 1), [2], set(), 2, 50),
        ]
    )


def context_full(answer, random):
    """it ends when prompt and answer together fill the context"""
    sizes = ((2, 5), (4, 7), (6, 6))
    answer.compare((speaker(seeds(random)), prompts(random, n), {5}, 20, context) for n, context in sizes)


def equal_scores(answer, random):
    """of equal scores the lowest id"""
    answer.compare((speaker(seeds(random), tie=True), prompts(random, n), {5}, 4, 50) for n in (2, 3))


ANSWER_IDS = Exercise(
    name="answer_ids",
    lesson="hw4",
    title="the loop that answers",
    oracle=answer_ids,
    may_call=(),
    checks={"loop": (goes_on, ends, context_full, equal_scores)},
    mistakes={
        "the prompt is in the answer, too: the new ids alone": answering(give=lambda prompt, new: prompt + new),
        "the end id is in the answer: it ends the text and is no part of it": answering(keep_end=True),
        "it chooses from the first position's scores: the last row is about the next token": answering(
            choose=lambda scores: int(scores[0].argmax())
        ),
        "it chooses from the row before the last: the last row is about the next token": answering(
            choose=lambda scores: int(scores[-2 if len(scores) > 1 else -1].argmax())
        ),
        "it chooses among all positions' scores: the last row alone is about the next token": answering(
            choose=lambda scores: int(scores.amax(dim=0).argmax())
        ),
        "it reads the prompt again each time, without what it has written": answering(
            reads=lambda prompt, new: list(prompt)
        ),
        "it reads the last id alone: the scores depend on the whole text": answering(
            reads=lambda prompt, new: (prompt + new)[-1:]
        ),
        "it does not end at an end id": answering(ends=lambda end_ids: ()),
        "it ends because an end id stands in the prompt: only one that it chooses itself ends the text": answering(
            stops_at=lambda prompt: prompt
        ),
        "it ends because the prompt's last id is an end id: only one that it chooses itself ends the text": answering(
            stops_at=lambda prompt: prompt[-1:]
        ),
        "it takes the best score for the id: the id is its place, `argmax`": answering(
            choose=lambda scores: int(scores[-1].max())
        ),
        "the limit counts the prompt, too: it is for the new ids": answering(
            new_limit=lambda limit, prompt: limit - len(prompt)
        ),
        "it writes one id too many: `limit` new ids at most": answering(new_limit=lambda limit, prompt: limit + 1),
        "it writes one id too few: `limit` new ids": answering(new_limit=lambda limit, prompt: limit - 1),
        "it ignores the context: prompt and answer have to fit into it": answering(room=lambda context, prompt: 10**6),
        "the context counts the answer alone: the prompt stands in it, too": answering(
            room=lambda context, prompt: context
        ),
        "it leaves one place of the context empty": answering(room=lambda context, prompt: context - len(prompt) - 1),
        "it goes one id past the context": answering(room=lambda context, prompt: context - len(prompt) + 1),
        "of equal scores it takes the last: the lowest id": answering(
            choose=lambda scores: len(scores[-1]) - 1 - int(scores[-1].flip(0).argmax())
        ),
        "it takes the smallest score": answering(choose=lambda scores: int(scores[-1].argmin())),
    },
    hints=(
        "A list of the new ids, empty at first. In each round: the scores of the whole text so far, its last row, the "
        "best id in it. What are the three reasons to stop?",
        "Before a round: are there `limit` new ids already? Do prompt and new ids fill the context? After choosing: is "
        "it one of end_ids? Only if not, it is added.",
        "A `while` loop with both conditions; in it `scores_of` of prompt and new ids together, as one list. The last "
        "row's `argmax()` is a tensor, and `int(…)` makes an id of it. An end id leaves the loop, any other is added.",
    ),
)
