"""Lesson 12: five ways to bend a next-token distribution before one token is drawn from it."""

from functools import partial

import torch

from course_lib.classroom.answers import describe
from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.lessons.tools import crash_said, draw
from course_lib.prediction import sampling


def between(random, low, high):
    return low + (high - low) * float(torch.rand((), generator=random))


def scores(random, *shape):
    """Scores of both signs, no two of a row closer than a tenth; each row at a level of its own."""
    *front, _ = shape
    order = torch.rand(shape, generator=random).argsort(-1)
    steps = 0.1 + 0.8 * torch.rand(shape, generator=random)
    level = torch.randn(*front, 1, generator=random) - steps.sum(-1, keepdim=True) / 2
    return (level + steps.cumsum(-1)).gather(-1, order)


def levels(random):
    """Three rows, thousands apart, and some of their scores −∞."""
    some = scores(random, 6)
    rest = ruled_out(some >= some.median(), some)
    return torch.stack([rest, some - 3000, rest.flip(0) + 3000])


def telling(draws, formulas):
    """An input from each draw, such that no two formulas agree on all: so a mistake shows, and shows as itself."""
    for _ in range(1000):
        inputs = [draw() for draw in draws]
        agree = torch.stack([agreement([formula(*given) for formula in formulas]) for given in inputs]).all(0)
        if agree.sum() == len(formulas):  # each with itself alone
            return inputs
    raise RuntimeError("no inputs were found that tell the mistakes apart")  # it would be a fault of this file


def agreement(answers):
    """Which of the answers are the same, each with each."""
    longest = max(answer.numel() for answer in answers)
    rows = torch.full((len(answers), longest), 3e6)
    for row, answer in zip(rows, answers, strict=True):
        row[: answer.numel()] = answer.flatten().float().nan_to_num(nan=2e6, posinf=1e6, neginf=-1e6)
    return (rows[:, None] - rows).abs().amax(-1) < 1e-4


def ruled_out(keep, logits):
    """The scores, and −∞ wherever `keep` is False."""
    return logits.masked_fill(~keep, -torch.inf)


def none_very_negative(learner, *given):
    """Raises where what is dropped got a very negative number in place of −∞."""
    answer, right = learner.answer(*given), learner.exercise.oracle(*given)
    if not (isinstance(answer, torch.Tensor) and answer.shape == right.shape and answer.is_floating_point()):
        return  # the comparison has something to say about it
    dropped = answer[right == -torch.inf]
    if dropped.isfinite().all() and (dropped <= -1000).all():
        raise Wrong(
            "what is dropped gets a very negative number: −∞ is asked for, whose probability is exactly 0",
            f"{learner.exercise.name}({', '.join(map(describe, given))}) gave {describe(answer)}",
        )


# ---- temperature ----------------------------------------------------------------------------------


def hot_and_cold(heat, random):
    """below 1 and above 1"""
    heat.compare(temperature_inputs(random, [(3,), (5,), (8,), (4,)]))


def temperature_one(heat, random):
    """1 changes nothing, and −∞ stays −∞"""
    one = scores(random, 4)
    heat.compare([(one, 1.0), (ruled_out(one < one.max(), one), 0.5), (torch.tensor([1.5]), 2.0)])
    heat.compare([(one, 2), (one, 1e-3), (one, 1e6), (100 * one, 0.01), (ruled_out(one < one.max(), one), 3.0)])


def temperature_batch(heat, random):
    """any number of dimensions: (…, vocab)"""
    heat.compare(temperature_inputs(random, [(2, 5), (2, 3, 4)]))


def temperature_inputs(random, shapes):
    """By turns cold and hot."""

    def drawn(shape, low):
        return scores(random, *shape), (0.25, 0.5, 0.7, 1.5, 2.0, 3.0)[draw(random, low, low + 2)]

    draws = [partial(drawn, shape, 3 * (number % 2)) for number, shape in enumerate(shapes)]
    return telling(draws, [sampling.temperature, *TEMPERATURE_MISTAKES.values()])


TEMPERATURE_MISTAKES = {
    "it multiplies by t: divide, so that a small t sets the scores farther apart": lambda x, t: x * t,
    "it gives probabilities: scores are asked for, softmax comes later": lambda x, t: (x / t).softmax(-1),
    "it divides the probabilities: divide the scores": lambda x, t: x.softmax(-1) / t,
    "it raises the probabilities to a power, which is right but for the form: the scores themselves are asked for": (
        lambda x, t: x.softmax(-1) ** (1 / t)
    ),
    "it raises the scores to a power, and a negative one has none: divide them": lambda x, t: x ** (1 / t),
    "it divides by t twice": lambda x, t: x / t**2,
    "it divides by the root of t": lambda x, t: x / t**0.5,
    "it takes t away from every score, and softmax does not notice: divide": lambda x, t: x - t,
    "it adds t to every score, and softmax does not notice: divide": lambda x, t: x + t,
    "its probabilities are right and its scores are shifted: they have lost the logarithm of a sum. Divide, no more": (
        lambda x, t: (x / t).log_softmax(-1)
    ),
    "it divides the logarithms of the probabilities: the scores themselves are asked for": (
        lambda x, t: x.log_softmax(-1) / t
    ),
    "its probabilities are right and its scores are shifted: the largest was taken off. Divide, no more": (
        lambda x, t: (x - x.amax(-1, keepdim=True)) / t
    ),
    "it drops the digits after the point: divide with /": lambda x, t: x // t,
    "it leaves negative scores as they are": lambda x, t: torch.where(x > 0, x / t, x),
}

TEMPERATURE = Exercise(
    name="temperature",
    lesson="12",
    title="sharper or flatter",
    oracle=sampling.temperature,
    checks={"scores": (hot_and_cold, temperature_one), "batch": (temperature_batch,)},
    mistakes=TEMPERATURE_MISTAKES,
    hints=(
        "The function gives scores back, not probabilities: softmax comes later, when a token is drawn.",
        "Every score is treated alike, whatever the shape of the tensor. A small t must set the scores farther apart.",
        "`logits / t`",
    ),
)


# ---- top-k ----------------------------------------------------------------------------------------


def largest(keep, random):
    """the k largest scores stay as they are, and all others become −∞"""
    given = top_k_inputs(random, [(5,), (6,), (9,), (12,)], TOP_K_ROW)
    none_very_negative(keep, *given[0])
    keep.compare(given)


def each_row(keep, random):
    """each row of a batch for itself: (…, vocab)"""
    keep.compare(top_k_inputs(random, [(5, 6), (4, 3, 7)], TOP_K_ROW | TOP_K_BATCH))
    rows = levels(random)
    keep.compare([(rows, k) for k in (1, 2, 6, 7)] + [(rows[:1], 50), (rows[:, None], 3), (rows[2] - 20_000, 2)])


def many_or_none(keep, random):
    """k may be as large as the vocabulary, or larger; what was −∞ stays so"""
    some = scores(random, 6)
    rest = ruled_out(some >= some.median(), some)
    keep.compare([(some, 6), (some, 50), (torch.tensor([-1.5]), 3), (rest, 2), (rest, 5), (some, 1)])


def equal_ones(keep, random):
    """whatever is equal to the k-th largest stays, too"""
    for vocab, k in ((6, 2), (8, 3)):
        some = scores(random, vocab)
        order = some.argsort(descending=True)
        some[order[k : k + 2]] = some[
            order[k - 1]
        ].item()  # three equal ones, and only one of them is among the first k
        answer = keep.answer(some, k)
        if isinstance(answer, torch.Tensor) and answer.shape == some.shape:
            kept = int((answer > -torch.inf).sum())
            if kept == k:
                raise Wrong(
                    "of several that are equal to the k-th largest it keeps some and drops others: nothing tells them "
                    "apart, so all of them stay",
                    f"top_k({describe(some)}, {k}) keeps {kept}",
                )
            if kept == k - 1:
                raise Wrong(
                    "where several are equal to the k-th largest it drops them all: they stay",
                    f"top_k({describe(some)}, {k}) keeps {kept}",
                )
        keep.compare([(some, k)])
    above = torch.tensor([3.0, 5.0, 1.0, 5.0, 2.0, 3.0])  # equal ones above the k-th, too, each of which counts
    near = torch.tensor([2.0, 2.0 + 2**-20, 2.0 - 2**-20, 1.0])  # not equal
    keep.compare([(above, k) for k in (1, 2, 3, 4, 5)] + [(near, k) for k in (1, 2)] + [(torch.zeros(4), 3)])


def top_k_inputs(random, shapes, formulas):
    draws = [lambda shape=shape: (scores(random, *shape), draw(random, 2, 3)) for shape in shapes]
    return telling(draws, [sampling.top_k, *formulas.values()])


def kth(x, k):
    return x.sort(dim=-1, descending=True).values[..., k - 1 : k]


TOP_K_ROW = {
    "it keeps one too few": lambda x, k: ruled_out(x >= kth(x, k - 1), x),
    "it keeps one too many": lambda x, k: ruled_out(x >= kth(x, k + 1), x),
    "it keeps the k smallest": lambda x, k: ruled_out(x <= kth(x, x.shape[-1] - k + 1), x),
    "it drops the k largest, and keeps the others": lambda x, k: ruled_out(x < kth(x, k), x),
    "what is dropped becomes 0, and 0 is a score like any other (e^0 = 1): −∞ is asked for": lambda x, k: (
        x * (x >= kth(x, k))
    ),
    "it gives the k largest scores alone: every token keeps its place, the dropped ones with −∞": lambda x, k: (
        kth(x, 1) if k == 1 else x.sort(dim=-1, descending=True).values[..., :k]
    ),
    "it gives ids: scores are asked for": lambda x, k: x.argsort(dim=-1, descending=True)[..., :k],
    "it gives probabilities: scores are asked for, softmax comes later": lambda x, k: ruled_out(
        x >= kth(x, k), x
    ).softmax(-1),
    "it gives True and False: scores are asked for": lambda x, k: x >= kth(x, k),
    "the scores are in another order: every token keeps its place": lambda x, k: ruled_out(
        torch.arange(x.shape[-1]) < k, x.sort(dim=-1, descending=True).values
    ),
    "it keeps the first k tokens of the vocabulary: the k largest scores are asked for": lambda x, k: ruled_out(
        (torch.arange(x.shape[-1]) < k).expand(x.shape), x
    ),
}
TOP_K_EQUALS = {
    "equal ones above the k-th count once: each of them is one of the k": lambda x, k: torch.stack(
        [
            ruled_out(row >= row.unique().flip(0)[min(k, len(row.unique())) - 1], row)
            for row in x.reshape(-1, x.shape[-1])
        ]
    ).view(x.shape),
    "nearly equal is not equal: what is a little below the k-th largest goes": lambda x, k: ruled_out(
        (x >= kth(x, min(k, x.shape[-1]))) | torch.isclose(x, kth(x, min(k, x.shape[-1]))), x
    ),
}
TOP_K_BATCH = {
    "it keeps the k largest of the whole batch: each row is for itself": lambda x, k: ruled_out(
        x >= kth(x.flatten(), k), x
    ),
    "it measures all rows by the first one: each row has a k-th largest of its own": lambda x, k: ruled_out(
        x >= kth(x, k).flatten()[0], x
    ),
    "it looks for the k largest along the first dimension: the vocabulary is the last one (dim=-1)": lambda x, k: (
        ruled_out(x >= x.sort(dim=0, descending=True).values[k - 1], x)
    ),
}

TOP_K = Exercise(
    name="top_k",
    lesson="12",
    title="the k largest",
    oracle=sampling.top_k,
    checks={
        "row": (
            largest,
            crash_said(
                many_or_none,
                ("out of",),
                "it stops where k is larger than the vocabulary: then every token stays",
            ),
            equal_ones,
        ),
        "batch": (
            crash_said(
                each_row,
                ("size of tensor",),
                "its bounds do not meet their rows: each row has a k-th largest of its own, and `[..., -1:]` keeps the "
                "dimension that it stands in",
            ),
        ),
    },
    mistakes=TOP_K_ROW | TOP_K_BATCH | TOP_K_EQUALS,
    hints=(
        "Find the k-th largest score of each row. Everything below it becomes −∞; everything else stays where it is.",
        "`logits.topk(n, dim=-1).values` are the n largest scores of each row in order: the last of them is the one "
        "to compare with. n must not be larger than `logits.shape[-1]`.",
        "`least = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]` keeps a last dimension of 1, so that "
        "`logits < least` compares each row with its own. Then `logits.masked_fill(…, -torch.inf)`.",
    ),
)


# ---- top-p ----------------------------------------------------------------------------------------


def fewest(keep, random):
    """the fewest tokens whose probabilities reach p, the one that crosses p among them"""
    given = top_p_inputs(random, [(5,), (6,), (8,), (10,)], TOP_P_ROW)
    none_very_negative(keep, *given[0])
    keep.compare(given)
    enough_at_exactly_p(keep, between(random, -2.0, 2.0))


def each_row_by_itself(keep, random):
    """each row of a batch for itself: (…, vocab)"""
    keep.compare(top_p_inputs(random, [(3, 6), (2, 2, 7)], TOP_P_ROW | TOP_P_BATCH))
    rows = levels(random)
    keep.compare([(rows, p) for p in (1.0, 0.001)] + [(1000 * rows[0], 0.9), (rows[:1, None], 1e-9)])


def all_or_one(keep, random):
    """p = 1 keeps every token, a tiny p the likeliest; what was −∞ stays so"""
    some = scores(random, 5)
    rest = ruled_out(some >= some.median(), some)
    keep.compare([(some, 1.0), (some, 0.001), (torch.tensor([-1.5]), 0.4), (rest, 1.0), (rest, 0.001)])


def enough_at_exactly_p(learner, score):
    """Raises where one more token stays though those before it hold exactly p.

    The scores are equal and their number is a power of 2, so the sums are exact. Which of the equals stay is open.
    """
    ties = [(torch.full((n,), score), p) for n, p in ((4, 0.5), (2, 0.5), (8, 0.25))]
    answers = [learner.answer(*tie) for tie in ties]
    if all(
        isinstance(answer, torch.Tensor) and answer.isfinite().sum() == round(len(equal) * p) + 1
        for answer, (equal, p) in zip(answers, ties, strict=True)
    ):
        raise Wrong(
            "it goes on where the tokens before hold exactly p: p is reached, so drop the next one, too (>=, not >)",
            f"{learner.exercise.name}({', '.join(map(describe, ties[0]))}) gave {describe(answers[0])}",
        )


def top_p_inputs(random, shapes, formulas):
    """p lies well beside every running sum, and no row keeps all."""

    def drawn(shape):
        while True:
            logits, p = scores(random, *shape), round(between(random, 0.35, 0.9), 2)
            sums = logits.softmax(-1).sort(-1, descending=True).values.cumsum(-1)
            if (sums - p).abs().min() > 0.03 and (sums[..., 0] < p).any() and (sums[..., -3] > p).all():
                return logits, p

    return telling([partial(drawn, shape) for shape in shapes], [sampling.top_p, *formulas.values()])


def nucleus(x, p, ascending=False, sums=None, crossing=0, back=True, probabilities=None):
    """Top-p with one slip; crossing: how many tokens too many it keeps."""
    probabilities = x.softmax(-1) if probabilities is None else probabilities
    order = probabilities.argsort(dim=-1, descending=not ascending, stable=True)
    ordered = (probabilities if sums is None else sums).gather(-1, order)
    keep = ordered.cumsum(-1) - ordered < p
    if crossing:
        keep = torch.arange(x.shape[-1]).expand(x.shape) < keep.sum(-1, keepdim=True) + crossing
    if back:
        keep = keep.gather(-1, order) if back == "gather" else keep.scatter(-1, order, keep)
    return ruled_out(keep, x)


TOP_P_ROW = {
    "it drops the token that crosses p, and what is left holds less than p": lambda x, p: nucleus(x, p, crossing=-1),
    "it keeps one token too many: the one that crosses p is the last": lambda x, p: nucleus(x, p, crossing=1),
    "it begins with the least likely tokens": lambda x, p: nucleus(x, p, ascending=True),
    "it wants p from each token by itself: those that stay hold it together": lambda x, p: ruled_out(
        x.softmax(-1) >= p, x
    ),
    "it compares each token's own probability with 1 − p: the probabilities are to be added up": lambda x, p: ruled_out(
        x.softmax(-1) >= 1 - p, x
    ),
    "it compares with p times the largest probability, which is min-p": lambda x, p: ruled_out(
        x.softmax(-1) >= p * x.softmax(-1).amax(-1, keepdim=True), x
    ),
    "it finds how many stay, and then drops the wrong ones: its True and False are in the order of size, and have to "
    "go back to the vocabulary's order": lambda x, p: nucleus(x, p, back=False),
    "it takes its True and False back to the vocabulary's order the wrong way round: scatter puts them there, gather "
    "picks": lambda x, p: nucleus(x, p, back="gather"),
    "the scores are in another order: every token keeps its place": lambda x, p: (
        nucleus(x, p).sort(dim=-1, descending=True).values
    ),
    "it adds up the probabilities in the order of the vocabulary: begin with the likeliest": lambda x, p: ruled_out(
        x.softmax(-1).cumsum(-1) - x.softmax(-1) < p, x
    ),
    "it adds up scores: probabilities are what sums to 1, so softmax comes first": lambda x, p: nucleus(x, p, sums=x),
    "what is dropped becomes 0, and 0 is a score like any other (e^0 = 1): −∞ is asked for": lambda x, p: (
        x * nucleus(x, p).isfinite()
    ),
    "it gives probabilities: scores are asked for, softmax comes later": lambda x, p: nucleus(x, p).softmax(-1),
    "it gives True and False: scores are asked for": lambda x, p: nucleus(x, p).isfinite(),
    "it drops the likely ones, and keeps the tail": lambda x, p: ruled_out(~nucleus(x, p).isfinite(), x),
}
TOP_P_BATCH = {
    "softmax runs over the whole batch: each row's probabilities sum to 1": lambda x, p: nucleus(
        x, p, probabilities=x.flatten().softmax(0).view(x.shape)
    ),
    "it takes the rows of the batch for one long row: each row is for itself": lambda x, p: nucleus(
        x.flatten(), p
    ).view(x.shape),
    "softmax runs over the first dimension: the vocabulary is the last one (dim=-1)": lambda x, p: nucleus(
        x, p, probabilities=x.softmax(0)
    ),
    "it runs along the first dimension from beginning to end: the vocabulary is the last one (dim=-1)": lambda x, p: (
        nucleus(x.movedim(0, -1), p).movedim(-1, 0)
    ),
    "what one row drops is dropped in all rows, for `index_fill` knows no rows: scatter keeps them apart": (
        lambda x, p: ruled_out(nucleus(x, p).isfinite().flatten(0, -2).all(0).expand(x.shape), x)
    ),
    "every row keeps as many tokens as the first one: each has a number of its own": lambda x, p: ruled_out(
        x >= kth(x, int(nucleus(x, p).isfinite().sum(-1).flatten()[0])), x
    ),
}

TOP_P = Exercise(
    name="top_p",
    lesson="12",
    title="the fewest that hold p",
    oracle=sampling.top_p,
    checks={
        "row": (fewest, all_or_one),
        "batch": (
            crash_said(
                each_row_by_itself,
                ("out of bounds for dimension 0",),
                "it treats a batch like one row: along dimension 0 stand rows, not tokens to be dropped. `scatter` "
                "with -1 keeps the rows apart",
            ),
        ),
    },
    mistakes=TOP_P_ROW | TOP_P_BATCH,
    hints=(
        "Sort the scores, the largest first, turn them into probabilities and add these up from the left. A token "
        "goes when those *before* it hold p already.",
        "`ordered, order = logits.sort(dim=-1, descending=True)`; what the tokens before each hold is "
        "`probabilities.cumsum(dim=-1) - probabilities`. `order` says where in the vocabulary each of them stands.",
        "`drop = before >= p` is in the order of size. `drop.scatter(-1, order, drop)` puts every True and False at "
        "its token's own place; then `logits.masked_fill(…, -torch.inf)`.",
    ),
)


# ---- min-p ----------------------------------------------------------------------------------------


def likely_enough(keep, random):
    """tokens at least p times as likely as the likeliest stay, all others become −∞"""
    given = min_p_inputs(random, [(5,), (6,), (8,), (10,)], MIN_P_ROW)
    none_very_negative(keep, *given[0])
    keep.compare(given)


def each_row_has_a_likeliest(keep, random):
    """each row of a batch for itself: (…, vocab)"""
    keep.compare(min_p_inputs(random, [(3, 6), (2, 2, 7)], MIN_P_ROW | MIN_P_BATCH))
    rows = levels(random)
    keep.compare([(rows, p) for p in (1.0, 1e-4)] + [(1000 * rows[0], 0.1), (rows[:1, None], 1.0), (rows[0], 1e-9)])


def equals_and_one(keep, random):
    """p = 1 keeps the likeliest, all of them where several are equal; what was −∞ stays so"""
    some = scores(random, 5)
    equal = some.clone()
    equal[some.argsort()[-2]] = some.max()
    rest = ruled_out(some >= some.median(), some)
    keep.compare([(some, 1.0), (equal, 1.0), (torch.tensor([-1.5]), 0.4), (rest, 1e-4), (torch.tensor([-1.5]), 1.0)])


def min_p_inputs(random, shapes, formulas):
    """p times the largest lies well beside every probability; some tokens stay, and some go."""

    def drawn(shape):
        while True:
            logits, p = scores(random, *shape), round(between(random, 0.1, 0.6), 2)
            ratios = logits.softmax(-1) / logits.softmax(-1).amax(-1, keepdim=True)
            stay = (ratios >= p).sum(-1)
            if (ratios / p - 1).abs().min() > 0.03 and stay.max() > 2 and (stay < shape[-1]).all():
                return logits, p

    return telling([partial(drawn, shape) for shape in shapes], [sampling.min_p, *formulas.values()])


def likely(x, p, probabilities=None, threshold=None):
    probabilities = x.softmax(-1) if probabilities is None else probabilities
    return ruled_out(probabilities >= (p * probabilities.amax(-1, keepdim=True) if threshold is None else threshold), x)


MIN_P_ROW = {
    "it compares with p itself: p times the *largest* probability is the bound": lambda x, p: likely(x, p, threshold=p),
    "it compares scores with p times the largest score: compare probabilities": lambda x, p: likely(
        x, p, probabilities=x
    ),
    "it compares scores with the largest score less p: compare probabilities": lambda x, p: ruled_out(
        x >= x.amax(-1, keepdim=True) - p, x
    ),
    "it compares with p times the average probability: the largest one counts": lambda x, p: likely(
        x, p, threshold=p * x.softmax(-1).mean(-1, keepdim=True)
    ),
    "it keeps the fewest tokens that hold p together, which is top-p": lambda x, p: nucleus(x, p),
    "it compares with 1 − p times the largest probability": lambda x, p: likely(x, 1 - p),
    "it compares with p times the *smallest* probability, which all of them reach": lambda x, p: x.clone(),
    "it is upside down: it drops what is likely enough": lambda x, p: ruled_out(~likely(x, p).isfinite(), x),
    "it drops every token but the likeliest": lambda x, p: ruled_out(x == x.amax(-1, keepdim=True), x),
    "what is dropped becomes 0, and 0 is a score like any other (e^0 = 1): −∞ is asked for": lambda x, p: (
        x * likely(x, p).isfinite()
    ),
    "it gives probabilities: scores are asked for, softmax comes later": lambda x, p: likely(x, p).softmax(-1),
    "it gives True and False: scores are asked for": lambda x, p: likely(x, p).isfinite(),
    "it drops everything: the bound lies above the largest. The logarithm of p is negative, and is *added*": (
        lambda x, p: torch.full_like(x, -torch.inf)
    ),
}
MIN_P_BATCH = {
    "it compares all rows with the largest probability of the batch: each row has its own": lambda x, p: likely(
        x, p, threshold=p * x.softmax(-1).max()
    ),
    "softmax runs over the whole batch, and the largest is that of the batch: each row is for itself": (
        lambda x, p: ruled_out(x.flatten().softmax(0).view(x.shape) >= p * x.flatten().softmax(0).max(), x)
    ),
    "softmax runs over the first dimension: the vocabulary is the last one (dim=-1)": lambda x, p: likely(
        x, p, probabilities=x.softmax(0)
    ),
    "it treats a batch like one row, with softmax(0) and max(): in a batch each row has a softmax and a largest of its "
    "own (dim=-1)": lambda x, p: likely(x, p, probabilities=x.softmax(0), threshold=p * x.softmax(0).max()),
    "softmax and the largest both run over the first dimension: the vocabulary is the last one (dim=-1)": (
        lambda x, p: likely(x, p, probabilities=x.softmax(0), threshold=p * x.softmax(0).amax(0, keepdim=True))
    ),
    "the largest is looked for along the first dimension: the vocabulary is the last one (dim=-1)": lambda x, p: likely(
        x, p, threshold=p * x.softmax(-1).amax(0, keepdim=True)
    ),
}

MIN_P = Exercise(
    name="min_p",
    lesson="12",
    title="likely enough beside the likeliest",
    oracle=sampling.min_p,
    checks={
        "row": (likely_enough, equals_and_one),
        "batch": (
            crash_said(
                each_row_has_a_likeliest,
                ("size of tensor",),
                "its bounds do not meet their rows: each row has a largest of its own, and keepdim=True keeps the "
                "dimension that it stands in",
            ),
        ),
    },
    mistakes=MIN_P_ROW
    | MIN_P_BATCH
    | {
        "it drops a token that is exactly p times as likely as the likeliest, and at p = 1 even that one: at least p "
        "times is enough": lambda x, p: ruled_out(x.softmax(-1) > p * x.softmax(-1).amax(-1, keepdim=True), x),
        "of several that are equally likely it keeps one: nothing tells them apart": lambda x, p: ruled_out(
            (x.softmax(-1) > p * x.softmax(-1).amax(-1, keepdim=True)).scatter(-1, x.argmax(-1, keepdim=True), True), x
        ),
    },
    hints=(
        "Turn the scores into probabilities. The bound is p times the largest of each row.",
        "`probabilities.amax(dim=-1, keepdim=True)` is the largest of each row, with a last dimension of 1, so that it "
        "can be compared with the whole row.",
        "`logits.masked_fill(probabilities < p * largest, -torch.inf)`",
    ),
)


# ---- repetition penalty ---------------------------------------------------------------------------


def less_likely(penalise, random):
    """a token that has come gets less likely: a positive score is divided, a negative one multiplied"""
    penalise.compare(penalty_inputs(random, [(6,), (8,), (12,)], 3, PENALTY_ROW))


def once(penalise, random):
    """a token that has come several times is penalised once"""
    penalise.compare(penalty_inputs(random, [(5,), (7,)], 6, PENALTY_ROW | PENALTY_REPEATED))


def own_ids(penalise, random):
    """each row of a batch by its own ids: (…, vocab) and (…, position)"""
    formulas = PENALTY_ROW | PENALTY_REPEATED | PENALTY_BATCH
    penalise.compare(penalty_inputs(random, [(3, 6), (2, 2, 8)], 4, formulas))
    penalise.compare([(levels(random), torch.tensor([[5], [0], [3]]), 1.5)])


def nothing_to_do(penalise, random):
    """a penalty of 1 changes nothing; 0 stays 0, −∞ stays −∞"""
    some = scores(random, 5)
    special = torch.cat((some, torch.tensor([0.0, -torch.inf])))
    penalise.compare(
        [
            (some, torch.tensor([0, 3, 4]), 1.0),
            (special, torch.tensor([1, 5, 6]), 1.5),
            (torch.tensor([-1.5]), torch.tensor([0]), 2.0),
            (some, torch.tensor([0, 4, 0]), 1.3),
            (1e-3 * some, torch.tensor([2, 2, 1]), 4.0),
        ]
    )


def penalty_inputs(random, shapes, n_ids, formulas):
    """Among the tokens that have come are one with a positive score and one with a negative one; some have not come.

    With 3 ids none comes twice; with more, some do, and the last one does not.
    """

    def drawn(shape):
        while True:
            logits = scores(random, *shape)
            ids = torch.rand(shape, generator=random).argsort(-1)[..., :3]
            if n_ids > 3:
                again = torch.tensor([0, 1, 1, 2] if n_ids == 4 else [0, 1, 1, 0, 1, 2])
                ids = ids.gather(-1, again.expand(*shape[:-1], n_ids))
            seen = logits.gather(-1, ids)
            if (seen > 0.2).any(-1).all() and (seen < -0.2).any(-1).all() and seen.abs().min() > 0.05:
                return logits, ids, (1.25, 1.5, 1.75, 2.0)[draw(random, 0, 3)]

    return telling([partial(drawn, shape) for shape in shapes], [sampling.repetition_penalty, *formulas.values()])


def where_seen(x, ids, change):
    """`change` applied to the scores of the tokens that have come."""
    return x.scatter(-1, ids, change(x.gather(-1, ids)))


def softened(seen, penalty):
    return torch.where(seen > 0, seen / penalty, seen * penalty)


def for_each_time(x, ids, penalty):
    for place in range(ids.shape[-1]):
        x = where_seen(x, ids[..., place : place + 1], lambda seen: softened(seen, penalty))
    return x


def by_all_ids(x, ids, penalty):
    everybody = ids.flatten().expand(*x.shape[:-1], -1)
    return sampling.repetition_penalty(x, everybody, penalty)


def by_first_row(x, ids, penalty):
    first = ids.flatten(0, -2)[0] if ids.ndim > 1 else ids
    return sampling.repetition_penalty(x, first.expand(*x.shape[:-1], -1), penalty)


def unseen(x, ids, penalty):
    mask = torch.zeros_like(x, dtype=torch.bool).scatter(-1, ids, True)
    return torch.where(mask, x, softened(x, penalty))


PENALTY_ROW = {
    "it divides negative scores, too, and −4 / 2 = −2 is *likelier*: multiply those": lambda x, ids, penalty: (
        where_seen(x, ids, lambda seen: seen / penalty)
    ),
    "it multiplies positive scores, too, and 4 · 2 = 8 is *likelier*: divide those": lambda x, ids, penalty: where_seen(
        x, ids, lambda seen: seen * penalty
    ),
    "it divides the negative scores and multiplies the positive ones: that makes all of them likelier": (
        lambda x, ids, penalty: where_seen(x, ids, lambda seen: torch.where(seen > 0, seen * penalty, seen / penalty))
    ),
    "it takes the penalty off the scores: divide and multiply": lambda x, ids, penalty: where_seen(
        x, ids, lambda seen: seen - penalty
    ),
    "it leaves negative scores as they are: multiply those": lambda x, ids, penalty: where_seen(
        x, ids, lambda seen: torch.where(seen > 0, seen / penalty, seen)
    ),
    "it leaves positive scores as they are: divide those": lambda x, ids, penalty: where_seen(
        x, ids, lambda seen: torch.where(seen > 0, seen, seen * penalty)
    ),
    "it penalises every token: only those among the ids": lambda x, ids, penalty: softened(x, penalty),
    "it penalises the tokens that have *not* come": unseen,
    "it penalises the last id alone: all of them have come": lambda x, ids, penalty: sampling.repetition_penalty(
        x, ids[..., -1:], penalty
    ),
    "it leaves the last id out": lambda x, ids, penalty: sampling.repetition_penalty(x, ids[..., :-1], penalty),
    "it rules the tokens out: less likely is asked for, not impossible": lambda x, ids, penalty: where_seen(
        x, ids, lambda seen: torch.full_like(seen, -torch.inf)
    ),
    "it gives probabilities: scores are asked for, softmax comes later": lambda x, ids, penalty: (
        sampling.repetition_penalty(x, ids, penalty).softmax(-1)
    ),
    "it gives the scores of the ids alone: those of the whole vocabulary are asked for": lambda x, ids, penalty: (
        softened(x.gather(-1, ids), penalty)
    ),
}
PENALTY_REPEATED = {
    "it penalises a token once for each time that it has come: once is enough": for_each_time,
}
PENALTY_BATCH = {
    "it penalises each row by the ids of all rows: each row has a text of its own": by_all_ids,
    "it penalises all rows by the ids of the first: each row has a text of its own": by_first_row,
}

REPETITION_PENALTY = Exercise(
    name="repetition_penalty",
    lesson="12",
    title="less of the same",
    oracle=sampling.repetition_penalty,
    checks={
        "row": (less_likely, once, nothing_to_do),
        "batch": (
            crash_said(
                own_ids,
                ("out of bounds for dimension 0",),
                "it treats a batch like one row: `logits[ids]` picks along dimension 0, where rows stand. `gather` and "
                "`scatter` with -1 keep the rows apart",
            ),
        ),
    },
    mistakes=PENALTY_ROW | PENALTY_REPEATED | PENALTY_BATCH,
    hints=(
        "Get the scores of the tokens that have come, change them, and put them back at their places.",
        "`seen = logits.gather(-1, ids)` gets them, one for each id. `torch.where(seen > 0, …, …)` treats positive and "
        "negative ones differently.",
        "`logits.scatter(-1, ids, changed)` gives a new tensor with the changed scores at the ids' places. An id that "
        "comes twice is written twice, with the same number.",
    ),
)


EXERCISES = (TEMPERATURE, TOP_K, TOP_P, MIN_P, REPETITION_PENALTY)
