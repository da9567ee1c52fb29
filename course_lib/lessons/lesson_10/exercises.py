"""Lesson 10: a softmax that survives any scores, the loss of a text, and a perplexity over several texts."""

import math

import torch

from course_lib.classroom.answers import describe, same
from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.lessons.tools import crash_said
from course_lib.prediction import logits as library


def scores(random, *shape, spread=2.0):
    return spread * torch.randn(*shape, generator=random)


# ---- stable_softmax -------------------------------------------------------------------------------


def one_row(softmax, random):
    """one row of scores"""
    softmax.compare([torch.tensor([1.0, 0.0]), torch.tensor([3.0, 1.0, -1.0]), scores(random, 5), scores(random, 40)])


def several_rows(softmax, random):
    """several rows: each sums to 1 along the last dimension"""
    # as many rows as columns in one, so that a softmax over the rows does not end in an error
    softmax.compare([scores(random, 2, 3), scores(random, 4, 4), scores(random, 2, 3, 5), scores(random, 3, 1, 4)])
    softmax.compare([scores(random, 1), scores(random, 1, 1), scores(random, 1, 1, 4), scores(random, 2, 2, 2, 3)])


def large_scores(softmax, random):
    """scores in the thousands, above and below 0, and a row far above another"""
    for far in (torch.tensor([1002.0, 1000.0]), torch.tensor([-998.0, -1000.0])):  # beyond any limit
        answer = softmax.answer(far)
        if isinstance(answer, torch.Tensor) and answer.tolist() == [0.5, 0.5]:
            raise Wrong(CUT_OFF, f"stable_softmax({describe(far)}) gave {describe(answer)}")
    apart = torch.tensor([[1000.0], [-1000.0]]) + scores(random, 2, 4)
    softmax.compare(
        [
            torch.tensor([1000.0, 998.0]),
            1000 + scores(random, 5),
            -1000 + scores(random, 5),
            apart,
            1000 * scores(random, 3, 6),
            torch.tensor([-1500.0, -1498.0, -1501.0]),
            torch.tensor([-300.0, 300.0, 299.0]),
        ]
    )


def never(softmax, random):
    """a score of −∞ has the probability 0, and the others share it all"""
    some = scores(random, 3, 5)
    some[0, 1] = some[1, 0] = some[1, 3] = some[2, 4] = -torch.inf
    softmax.compare([torch.tensor([0.0, -torch.inf, 1.0]), some, 1000 + some, some - 1000])


def power_share(powers):
    return powers / powers.sum(-1, keepdim=True)


def shifted_by(amount):
    return lambda s: power_share(torch.exp(s - amount(s)))


def largest_of_each(s):
    return s.max(-1, keepdim=True).values


CUT_OFF = "it cuts scores or powers off at a limit: those beyond it all get the same. Take the largest of each row off"
SOFTMAX_MISTAKES = {
    "rows do not sum to 1: softmax runs over the first dimension, and the last, dim=-1, is asked for": lambda s: (
        torch.softmax(s, 0)
    ),
    "softmax runs over the last dimension but one: the last, dim=-1, is asked for": lambda s: torch.softmax(s, -2),
    "softmax runs over dimension 1: in a tensor of three dimensions the last one is dim=-1": lambda s: torch.softmax(
        s, min(1, s.ndim - 1)
    ),
    "all rows together sum to 1: each row on its own should (dim=-1, keepdim=True)": lambda s: torch.softmax(
        s.flatten(), 0
    ).view_as(s),
    "it divides the scores by their sum: take e to the power of each first": power_share,
    "it gives the logarithms: probabilities are asked for": lambda s: torch.log_softmax(s, -1),
    "it gives e to the power of the scores, and they do not sum to 1: divide by their sum": lambda s: torch.exp(
        s - largest_of_each(s)
    ),
    "it gives e to the power of the scores as they are: divide by their sum, and take the largest off first": torch.exp,
    "it takes powers of 2: e to the power of the score, torch.exp, is asked for": lambda s: power_share(
        torch.exp2(s - largest_of_each(s))
    ),
    "the signs are turned: the largest score must get the most": lambda s: torch.softmax(-s, -1),
    "it gives the largest score everything: softmax gives each its share": lambda s: (s == largest_of_each(s)).float(),
    "e to the power of large scores overflows, or all become 0: take the largest of each row off first": lambda s: (
        power_share(torch.exp(s))
    ),
    "it takes off the largest score of the whole tensor: a row far below it becomes 0 / 0. Each row has its own "
    "(dim=-1, keepdim=True)": shifted_by(lambda s: s.max()),
    "it takes off the smallest score: the largest still overflows": shifted_by(
        lambda s: s.min(-1, keepdim=True).values
    ),
    "it takes off the mean score: the largest of scores far apart still overflows": shifted_by(
        lambda s: s.mean(-1, keepdim=True)
    ),
    "it takes off the largest size, the sign left out: scores far below 0 all become 0": shifted_by(
        lambda s: s.abs().amax(-1, keepdim=True)
    ),
    "a score of −∞ gets a share: e to the power of −∞ is 0, so leave it as it is": lambda s: torch.softmax(
        s.masked_fill(s == -torch.inf, 0.0), -1
    ),
    "it begins its search at −999: scores may be lower than that": shifted_by(
        lambda s: largest_of_each(s).clamp(min=-999.0)
    ),
    CUT_OFF: lambda s: power_share(torch.exp(s.clamp(-50, 50))),
    "64 bits only move the border: e to the power of 1000 overflows there, too. Take the largest of each row off": (
        lambda s: power_share(torch.exp(s.double())).float()
    ),
    "NaN is made a 0, and hides that e to the power of large scores overflowed: take the largest of each row off": (
        lambda s: power_share(torch.exp(s)).nan_to_num(0.0)
    ),
}


# ---- next_token_loss ------------------------------------------------------------------------------


def text(random, batch, position, vocab, spread=2.0):
    """Scores and ids; no id comes twice in a row, so that each shift gives another loss."""
    ids = torch.randint(vocab, (batch, position), generator=random)
    for i in range(1, position):
        ids[:, i] = torch.where(ids[:, i] == ids[:, i - 1], (ids[:, i] + 1) % vocab, ids[:, i])
    return scores(random, batch, position, vocab, spread=spread), ids


def one_step(loss, random):
    """two tokens: the first one's scores are about the second"""
    given = [text(random, 1, 2, 3), text(random, 1, 2, 5)]
    loss.compare(given)
    if not isinstance(answer := loss.answer(*given[0]), torch.Tensor):  # the comparison takes one for the other
        raise Wrong(
            "it gives a bare number, from which no gradient can be found: give back the tensor itself, without .item()",
            describe(answer),
        )


def one_text(loss, random):
    """one text: each token's scores are about the next one, and the last one's about nothing"""
    loss.compare([text(random, 1, 3, 4), text(random, 1, 5, 6), text(random, 1, 9, 12)])
    logits, _ = text(random, 1, 5, 4)
    loss.compare([(logits, torch.tensor([ids])) for ids in ([0, 0, 0, 0, 0], [3, 0, 3, 0, 3], [1, 2, 3, 3, 0])])


def many_texts(loss, random):
    """several texts: the mean over all of them"""
    loss.compare([text(random, 2, 3, 4), text(random, 3, 5, 6), text(random, 4, 7, 10)])


def sure_and_wrong(loss, random):
    """scores in the hundreds and thousands, of a model that is sure of itself and wrong"""
    sure_of_0 = torch.tensor([[[1002.0, 1000.0], [1000.0, 1000.0]]])
    if same(answer := loss.answer(sure_of_0, torch.tensor([[0, 1]])), torch.tensor(math.log(2))):
        raise Wrong(
            "it cuts scores off at a limit: beyond it all tokens get the same. Take the largest score off first",
            f"next_token_loss({describe(sure_of_0)}, [[0, 1]]) gave {describe(answer)}; right is 2.1269",
        )
    logits, ids = text(random, 2, 4, 6)
    apart = 1000.0 * (-1) ** (torch.arange(2)[:, None] + torch.arange(4))[..., None]  # above and below 0 by turns
    sure = torch.nn.functional.one_hot((ids.roll(-1, 1) + 1) % 6, 6)  # of an id that does not come
    loss.compare([(logits + 300 * sure, ids), (logits + 1000, ids), (logits - 1000, ids), (logits + apart, ids)])


def mean_loss(logits, ids, reduction="mean"):
    return torch.nn.functional.cross_entropy(logits.flatten(0, -2), ids.flatten(), reduction=reduction)


def shifted(logits, ids, reduction="mean"):
    return mean_loss(logits[:, :-1], ids[:, 1:], reduction)


def probability(logits, ids):
    return torch.softmax(logits[:, :-1], -1).gather(-1, ids[:, 1:, None])


def along_positions(logits, ids):
    """Log-softmax over the wrong dimension of (batch, position, vocab)."""
    return -logits.log_softmax(1)[:, : ids.shape[1] - 1].gather(-1, ids[:, 1:, None]).mean()


def log_of_softmax(change):
    return lambda logits, ids: -change(probability(logits, ids)).log().mean()


def naive(logits, ids):
    powers = logits[:, :-1].exp()
    return -(powers / powers.sum(-1, keepdim=True)).gather(-1, ids[:, 1:, None]).log().mean()


def one_largest_for_all(logits, ids):
    below = logits[:, :-1] - logits.max()
    return -(below - below.exp().sum(-1, keepdim=True).log()).gather(-1, ids[:, 1:, None]).mean()


LOSS_MISTAKES = {
    "the scores are held against their own token: those at position i are about the id at i + 1": mean_loss,
    "the scores are held against their own token, and the last token is left out: those at position i are about the id "
    "at i + 1": lambda s, i: mean_loss(s[:, :-1], i[:, :-1]),
    "the scores are held against their own token, and the first token is left out: those at position i are about the "
    "id at i + 1": lambda s, i: mean_loss(s[:, 1:], i[:, 1:]),
    "it shifts the wrong way: the scores at position i are about the id at i + 1": lambda s, i: mean_loss(
        s[:, 1:], i[:, :-1]
    ),
    "the last scores are held against the first id, as if the text went round: they are about nothing": lambda s, i: (
        mean_loss(s, i.roll(-1, 1))
    ),
    "the sign is missing: the surprise is −ln p": lambda s, i: -shifted(s, i),
    "it divides by all positions: the last one of each text is not counted, so it has no place in the mean": (
        lambda s, i: shifted(s, i, "sum") / i.numel()
    ),
    "it gives one loss for each position: their mean is asked for": lambda s, i: shifted(s, i, "none").view(len(i), -1),
    "it gives one loss for each text: one number for all is asked for": lambda s, i: torch.stack(
        [mean_loss(a[:-1], b[1:]) for a, b in zip(s, i, strict=True)]
    ),
    "it gives bits, logarithms to the base 2: nats are asked for": lambda s, i: shifted(s, i) / math.log(2),
    "it gives the perplexity: the loss itself is asked for": lambda s, i: shifted(s, i).exp(),
    "it gives 1 − p: the surprise is −ln p": lambda s, i: (1 - probability(s, i)).mean(),
    "it takes the scores for logarithms of probabilities: log-softmax comes first": lambda s, i: (
        -s[:, :-1].gather(-1, i[:, 1:, None]).mean()
    ),
    "log-softmax runs over the positions, dim=1: the vocabulary is the last dimension, dim=-1": lambda s, i: (
        along_positions(s[:, :-1], i)
    ),
    "log-softmax runs over all the positions, dim=1, the last one among them: the vocabulary is the last dimension, "
    "dim=-1": along_positions,
    "softmax is taken twice: scores → log-softmax, once": lambda s, i: shifted(torch.softmax(s, -1), i),
    "it adds the surprises up: their mean is asked for": lambda s, i: shifted(s, i, "sum"),
    "it counts the last position alone: the mean over all of them is asked for": lambda s, i: mean_loss(
        s[:, -2:-1], i[:, -1:]
    ),
    "it takes the logarithm of the mean probability: the mean of the logarithms is asked for": lambda s, i: (
        -probability(s, i).mean().log()
    ),
    "it takes the first text alone: the mean over all texts is asked for": lambda s, i: shifted(s[:1], i[:1]),
    "it adds the texts up and takes the mean over the positions alone: the mean over all tokens is asked for": (
        lambda s, i: shifted(s, i, "sum") / (i.shape[1] - 1)
    ),
    "e to the power of large scores overflows, or all become 0: take the largest score off first": naive,
    "it takes off one largest score for several positions: where all scores lie far below it, ln 0 is left. Each "
    "position has its own (dim=-1, keepdim=True)": one_largest_for_all,
    "a probability too small for 32 bits becomes 0, and its logarithm −∞: calculate the logarithm without it, "
    "s − ln Σ e^s": log_of_softmax(lambda p: p),
    "a small number is added to the probability, and hides how wrong the model is: s − ln Σ e^s needs none": (
        log_of_softmax(lambda p: p + 1e-9)
    ),
}


# ---- perplexity_of --------------------------------------------------------------------------------


def chances(random, n, low=0.05, high=0.95):
    return [round(low + (high - low) * float(p), 3) for p in torch.rand(n, generator=random)]


def a_number(perplexity, random):
    """a number"""
    answer = perplexity.answer([chances(random, 3), chances(random, 2)])
    if isinstance(answer, list | tuple) or (isinstance(answer, torch.Tensor) and answer.ndim > 0):
        raise Wrong(
            "it gives one perplexity for each text: one for all of them together is asked for", describe(answer)
        )


def one_alone(perplexity, random):
    """one text, and two of the same length: e to the power of the mean surprise"""
    four = [0.3, 0.9, *chances(random, 2)]  # not all alike: the ways to take a mean differ
    two = [chances(random, 3, 0.6), chances(random, 3, 0.05, 0.4)]
    perplexity.compare([([[0.25]],), ([[0.5, 0.125]],), ([four],), (two,), ([[0.2, *chances(random, 8), 0.8]],)])
    perplexity.compare([([[1.0]],), ([[1.0, 1.0], [1.0]],), ([[1, 0.5]],)])


def lengths_differ(perplexity, random):
    """several texts: every token counts the same"""
    long, short = chances(random, 7, 0.6), chances(random, 2, 0.05, 0.2)
    perplexity.compare([([[0.5], [0.25, 0.25]],), ([short, long],), ([long, chances(random, 4, 0.2, 0.5), short],)])
    perplexity.compare([([[0.25], []],), ([[], [0.5, 0.25]],)])


def a_long_text(perplexity, random):
    """texts so long that their probabilities multiply to nothing"""
    perplexity.compare([([chances(random, 3000)],), ([chances(random, 40), chances(random, 3000, 0.05, 0.3)],)])


def the_impossible(perplexity, random):
    """who has given 0 to what came: infinity"""
    some = chances(random, 3)
    perplexity.compare([([[1e-30, 0.5]],), ([[1e-12, 1e-15]],)])
    perplexity.compare([([[0.5, 0.0]],), ([some, [0.25, 0.0, 0.5]],), ([[0.0, *some], some],)])


def tokens_of(texts):
    return [p for text in texts for p in text]


def surprises(texts):
    return [math.inf if p == 0 else -math.log(p) for p in tokens_of(texts)]


def mean(values):
    return sum(values) / len(values)


def power(base, exponent):
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf


def perplexity(texts):
    return power(math.e, mean(surprises(texts)))


PERPLEXITY_MISTAKES = {
    "it gives the mean surprise: e to the power of it is asked for": lambda t: mean(surprises(t)),
    "it gives bits: e to the power of the mean surprise in nats is asked for": lambda t: (
        mean(surprises(t)) / math.log(2)
    ),
    "the sign is missing: the surprise is −ln p": lambda t: math.exp(-mean(surprises(t))),
    "it mixes two logarithms: ln goes with e to the power of it, log2 with 2 to the power of it": lambda t: power(
        2, mean(surprises(t))
    ),
    "it mixes two logarithms: log2 goes with 2 to the power of it, ln with e to the power of it": lambda t: power(
        math.e, mean(surprises(t)) / math.log(2)
    ),
    "it takes e to the power of the sum, which is 1 / the product: of the mean is asked for": lambda t: power(
        math.e, sum(surprises(t))
    ),
    "it takes the mean of 1 / p: e to the power of the mean of −ln p is asked for": lambda t: mean(
        [math.inf if p == 0 else 1 / p for p in tokens_of(t)]
    ),
    "it takes 1 / the mean probability: the mean is one of surprises, −ln p": lambda t: 1 / mean(tokens_of(t)),
    "it takes the mean of the texts' perplexities: every token counts the same": lambda t: mean(
        [perplexity([one]) for one in t]
    ),
    "it takes the mean of the texts' mean surprises: every token counts the same, so a long text counts for more": (
        lambda t: power(math.e, mean([mean(surprises([one])) for one in t]))
    ),
    "it divides by the number of texts: by the number of tokens is asked for": lambda t: power(
        math.e, sum(surprises(t)) / len(t)
    ),
    "it takes the first text alone: all of them together are asked for": lambda t: perplexity(t[:1]),
    "it takes the last text alone: all of them together are asked for": lambda t: perplexity(t[-1:]),
    "it leaves out what had the probability 0: that makes the perplexity infinite": lambda t: math.exp(
        mean([-math.log(p) for p in tokens_of(t) if p > 0])
    ),
    "it takes a small probability for 0, and says infinity": lambda t: (
        math.inf if min(tokens_of(t)) < 1e-9 else perplexity(t)
    ),
    "a small number is added to each probability, and hides the impossible: 0 makes the perplexity infinite": (
        lambda t: math.exp(mean([-math.log(p + 1e-9) for p in tokens_of(t)]))
    ),
}


# how a logarithm of 0, or a division by it, stops
LOG_OF_0 = ("ZeroDivisionError", "ValueError: math domain", "positive")

EXERCISES = (
    Exercise(
        name="stable_softmax",
        lesson="10",
        title="scores into probabilities",
        oracle=lambda logits: library.softmax(logits),
        checks={"shares": (one_row, several_rows), "any_scores": (large_scores, never)},
        mistakes=SOFTMAX_MISTAKES,
        hints=(
            "Three steps: take the largest score of each row off, take e to the power of what is left, divide by the "
            "row's sum.",
            "`logits.max(dim=-1, keepdim=True).values` is the largest of each row. keepdim keeps the last dimension, "
            "so that subtracting works for a tensor of any shape; the sum needs it, too.",
            "`powers = torch.exp(logits - logits.max(dim=-1, keepdim=True).values)`, then "
            "`powers / powers.sum(dim=-1, keepdim=True)`. −∞ needs nothing of its own: e to the power of it is 0.",
        ),
    ),
    Exercise(
        name="next_token_loss",
        lesson="10",
        title="the mean surprise of a text",
        oracle=lambda logits, ids: library.cross_entropy(logits[:, :-1], ids[:, 1:]),
        checks={"shift": (one_step, one_text), "stable": (many_texts, sure_and_wrong)},
        mistakes=LOSS_MISTAKES,
        hints=(
            "First bring together what belongs together: all scores but each text's last, and all ids but each text's "
            "first. Then log-softmax, its value at each id, the sign turned, the mean.",
            "`logits[:, :-1]` and `ids[:, 1:]`. `log_p.gather(-1, targets[..., None])` picks, at each position, the "
            "value at the target's place.",
            "With `about = logits[:, :-1]`: `about = about - about.max(dim=-1, keepdim=True).values`, then "
            "`log_p = about - about.exp().sum(dim=-1, keepdim=True).log()`, and "
            "`-log_p.gather(-1, ids[:, 1:, None]).mean()`.",
        ),
    ),
    Exercise(
        name="perplexity_of",
        lesson="10",
        title="among how many the choice was open",
        oracle=perplexity,
        checks={
            "one_text": (a_number, one_alone),
            "texts": (
                lengths_differ,
                crash_said(a_long_text, LOG_OF_0, "a long text's probabilities multiply to 0: add up their logarithms"),
                crash_said(the_impossible, LOG_OF_0, "a probability of 0 ends in an error: give back math.inf"),
            ),
        },
        mistakes=PERPLEXITY_MISTAKES,
        hints=(
            "Bring the tokens of all texts into one list: then the number of texts plays no part. The perplexity is e "
            "to the power of the mean of −ln p.",
            "`[p for text in texts for p in text]` is that list. If 0 is in it, the answer is math.inf; else "
            "`math.log(p)` has a value for each.",
            "`math.exp(-sum(math.log(p) for p in probabilities) / len(probabilities))`",
        ),
    ),
)
