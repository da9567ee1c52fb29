"""Homework 3, sampling: penalties, forbidden repeats, and three rules for what is kept."""

import math
from itertools import combinations

import torch

from course_lib.classroom.exercise import Exercise
from course_lib.lessons.tools import draw, some, vectors


def counts_of(logits, ids):
    return torch.bincount(ids, minlength=len(logits))


def penalising(
    counts=counts_of, often=lambda n: n, once=lambda n: n > 0, take=lambda logits, penalty: logits - penalty
):
    def answer(logits, ids, frequency, presence):
        n = counts(logits, ids)
        return take(logits, frequency * often(n) + presence * once(n))

    return answer


count_penalties = penalising()


def written(random, length, words=6):
    """Ids of which one comes several times and the last two are not the same; two words never come."""
    ids = torch.randint(words - 2, (length,), generator=random)
    ids[1:3] = ids[0]
    ids[-1] = (ids[0] + 1) % (words - 2)
    return torch.randperm(words, generator=random)[ids]


def both_penalties(penalise, random):
    """each token of the text loses `frequency` for each time that it came, and `presence` for having come at all"""
    lengths = (4, 5, 7, 12)
    penalise.compare((2 * vectors(random, 6), written(random, n), 0.3 + 0.1 * n, 0.25) for n in lengths)


def one_penalty(penalise, random):
    """also where one of the two is 0, or negative: then what came is favoured"""
    pairs = ((0.7, 0.0), (0.0, 0.6), (-0.4, 0.0), (0.3, -0.8))
    penalise.compare((2 * vectors(random, 6), written(random, 6), *pair) for pair in pairs)


def no_text_yet(penalise, random):
    """at the beginning, with no text yet, nothing changes; a score of −∞ stays"""
    nothing, ruled_out = torch.zeros(0, dtype=torch.long), 2 * vectors(random, 6)
    ruled_out[draw(random, 0, 5)] = -torch.inf
    penalise.compare([(vectors(random, 4), nothing, 0.5, 0.2), (ruled_out, torch.arange(6), 0.5, 0.2)])
    ends = [(vectors(random, 4), torch.tensor(ids), 0.5, 0.2) for ids in ([0], [3], [0, 3, 0])]
    penalise.compare(
        [*ends, (ruled_out, torch.arange(6), -0.5, -0.2), (vectors(random, 1), torch.tensor([0, 0]), 0.5, 0.2)]
    )


COUNT_PENALTIES = Exercise(
    name="count_penalties",
    lesson="hw3",
    title="frequency and presence penalty",
    oracle=count_penalties,
    may_call=(),
    checks={"penalties": (both_penalties, one_penalty, no_text_yet)},
    mistakes={
        "a token that came three times loses `frequency` once: it loses it three times": penalising(
            often=lambda n: n > 0
        ),
        "it takes `presence` off for each time that a token came: once is enough": penalising(once=lambda n: n),
        "frequency and presence are swapped: frequency goes by the number of times": penalising(
            often=lambda n: n > 0, once=lambda n: n
        ),
        "the penalties are added: they are taken off": penalising(take=lambda logits, penalty: logits + penalty),
        "every token loses `presence`: only those that came lose it": penalising(once=lambda n: torch.ones(len(n))),
        "only the last token of the text is penalised: all of them are": penalising(
            lambda logits, ids: counts_of(logits, ids[-1:])
        ),
        "it takes the share of the text that a token has: the number of times is meant": penalising(
            lambda logits, ids: counts_of(logits, ids), often=lambda n: n / n.sum().clamp(min=1)
        ),
        "`presence` is left out": penalising(once=lambda n: 0 * n),
        "`frequency` is left out": penalising(often=lambda n: 0 * n),
        "the penalty grows with the score: it is subtracted, and the score has no part in it": penalising(
            take=lambda logits, penalty: logits * (1 - penalty)
        ),
        "the first time is free: frequency counts every time, the first one too": penalising(
            often=lambda n: (n - 1).clamp(min=0)
        ),
    },
    hints=(
        "First a row of counts, one for each token of the vocabulary: how often does it occur in `ids`?",
        "`torch.bincount(ids, minlength=len(logits))` counts; a loop over `ids.tolist()` does, too. Mind that "
        "`scores[ids] -= 1` takes 1 off once, even for a token that stands in `ids` three times.",
        "Two terms are taken off: frequency · counts, and presence · (counts > 0). No branch is needed for an empty "
        "text, where all counts are 0.",
    ),
)


def places_of(ids, begun):
    """Where the tokens `begun` stand in ids, with a token after them."""
    size = len(begun)
    return [i for i in range(len(ids) - size) if ids[i : i + size] == begun]


def repeated_by(ids, n):
    """The tokens that would complete n tokens that are there already."""
    begun = ids[len(ids) - (n - 1) :] if len(ids) >= n - 1 else None
    return [ids[i + n - 1] for i in places_of(ids, begun)] if begun is not None else []


def forbidding(find=repeated_by, forbid=lambda logits, mask: logits.masked_fill(mask, -torch.inf)):
    def answer(logits, ids, n):
        mask = torch.zeros(len(logits), dtype=torch.bool)
        mask[find(ids.tolist(), n)] = True
        return forbid(logits, mask)

    return answer


forbid_repeats = forbidding()


def of_longer(by):
    def find(ids, n):
        if n + by < 1:
            raise IndexError  # such a slip is none here
        return repeated_by(ids, n + by)

    return find


def slice_of_nothing(ids, n):
    """ids[-0:] is the whole text, and not nothing."""
    return repeated_by(ids, n) if n > 1 else []


def in_any_order(ids, n):
    begun = sorted(ids[len(ids) - (n - 1) :]) if len(ids) >= n - 1 else None
    return [ids[i + n - 1] for i in range(len(ids) - n + 1) if sorted(ids[i : i + n - 1]) == begun]


def in_steps(ids, n):
    begun = ids[len(ids) - (n - 1) :] if len(ids) >= n - 1 else None
    return [ids[i + n - 1] for i in range(0, len(ids) - n + 1, n) if ids[i : i + n - 1] == begun]


def one_place_short(ids, n):
    begun = ids[len(ids) - (n - 1) :] if len(ids) >= n - 1 else None
    return [ids[i + n - 1] for i in range(len(ids) - n) if ids[i : i + n - 1] == begun]


def one_of(which):
    def find(ids, n):
        found = repeated_by(ids, n)
        return found[which : which + 1 or None]

    return find


def first_of_them(ids, n):
    begun = ids[len(ids) - (n - 1) :] if len(ids) >= n - 1 else []
    return [begun[0] for _ in places_of(ids, begun)] if begun else repeated_by(ids, n)


def texts(random, all_n, length=14, alphabet=3, words=8):
    """Texts of few words, so that many n-grams come again; several tokens are forbidden, at different places."""
    for n in all_n:
        while True:
            ids = torch.randint(alphabet, (length,), generator=random).tolist()
            found = repeated_by(ids, n)
            if len(set(found)) > 1 and found[0] != found[-1] and set(found) != set(ids):
                break
        names = torch.randperm(words, generator=random)
        yield 2 * vectors(random, words), names[torch.tensor(ids)], n


def repeats(forbid, random):
    """a token that would complete n tokens which the text has already gets −∞; all others stay"""
    ids = torch.tensor([0, 1, 2, 2, 1, 0, 3, 0, 1])  # 0 1 is begun: after the first one stood 2, and 1 0 is another
    names = torch.randperm(6, generator=random)
    forbid.compare([(vectors(random, 6), names[ids], 3), *texts(random, (2, 2, 3, 3, 2, 3))])


def overlapping(forbid, random):
    """also where the two beginnings overlap: after a a, with n = 2, a is forbidden"""
    inputs = []
    for ids, n in (([0, 0], 2), ([1, 0, 0], 2), ([0, 0, 0], 3), ([1, 0, 1, 0, 1], 4)):
        names = torch.randperm(5, generator=random)
        inputs.append((2 * vectors(random, 5), names[torch.tensor(ids)], n))
    forbid.compare(inputs)


def longer_ones(forbid, random):
    """also for longer sequences"""
    forbid.compare(texts(random, (4, 5), length=80))


def single_tokens(forbid, random):
    """n = 1: each token that came is forbidden"""
    one, two = torch.randperm(5, generator=random)[:2]
    drawn = [torch.randint(5, (size,), generator=random) for size in (2, 4, 6)]
    forbid.compare((2 * vectors(random, 7), ids, 1) for ids in (torch.stack([one, two, one]), *drawn))


def too_short(forbid, random):
    """a text that is too short to repeat anything forbids nothing"""
    sizes = ((0, 1), (0, 3), (1, 3), (1, 2), (2, 4))
    forbid.compare((vectors(random, 5), torch.randperm(5, generator=random)[:size], n) for size, n in sizes)
    closed = vectors(random, 5)
    closed[[1, 3]] = -torch.inf
    texts_at_the_ends = (([0], 1), ([4, 0, 4], 2), ([0, 4, 0], 2), ([0, 0, 0, 0], 4), ([1, 2, 1], 2), ([2, 2], 1))
    forbid.compare(
        (logits, torch.tensor(ids), n) for ids, n in texts_at_the_ends for logits in (vectors(random, 5), closed)
    )


FORBID_REPEATS = Exercise(
    name="forbid_repeats",
    lesson="hw3",
    title="no n tokens twice",
    oracle=forbid_repeats,
    may_call=(),
    checks={"repeats": (repeats, overlapping, longer_ones, single_tokens, too_short)},
    mistakes={
        "it compares the last n tokens: the last n − 1 are begun, and the next token completes them": forbidding(
            of_longer(1)
        ),
        "it compares the last n − 2 tokens: the last n − 1 are begun, and the next token completes them": forbidding(
            of_longer(-1)
        ),
        "it finds the first earlier place only: the same beginning may stand at several": forbidding(one_of(0)),
        "it finds the last earlier place only: the same beginning may stand at several": forbidding(one_of(-1)),
        "it looks at every n-th place only: n tokens may begin anywhere": forbidding(in_steps),
        "it leaves the last place out: the last i is len(ids) − n, where the two beginnings may overlap": forbidding(
            one_place_short
        ),
        "it ignores the order: the last n − 1 tokens have to stand there in the same order": forbidding(in_any_order),
        "it forbids every token of the text, whatever stands before it": forbidding(lambda ids, n: ids),
        "it forbids the token with which the repetition began: the one that would complete it is meant": forbidding(
            first_of_them
        ),
        "with n = 1 it forbids nothing: `ids[-0:]` is the whole text, not its empty end": forbidding(slice_of_nothing),
        "what is forbidden gets the score 0, and e to the power of 0 is 1: −∞ it must be": forbidding(
            forbid=lambda logits, mask: logits * ~mask
        ),
        "it forbids all the others": forbidding(forbid=lambda logits, mask: logits.masked_fill(~mask, -torch.inf)),
        "it says which tokens are forbidden; the logits are asked for": lambda logits, ids, n: repeated_by(
            ids.tolist(), n
        ),
    },
    hints=(
        "What is begun: the last n − 1 tokens. Look for each place in the text where the same n − 1 tokens stand in a "
        "row. The token after them is forbidden.",
        "Lists are compared whole: `ids[i : i + n - 1] == begun`. Which i has a token at i + n − 1? Those from 0 to "
        "len(ids) − n.",
        "Count `begun` from the front: it starts at len(ids) − (n − 1). With n = 1 that is len(ids), and `begun` is "
        "empty: then it stands everywhere, and every token is forbidden. If the text is shorter than n, nothing is.",
    ),
)


def entropy_of(log_p):
    return -(log_p.exp() * log_p).nansum()


def from_entropy(log_p):
    """How far each token's surprise is from the mean surprise."""
    return (-log_p - entropy_of(log_p)).abs()


def keeping_mass(order=from_entropy, reached=lambda before, mass: before < mass, put_back=True, out=-torch.inf):
    def answer(logits, mass):
        log_p = logits.log_softmax(-1)
        ranked = order(log_p).argsort(stable=True)
        p = log_p.exp()[ranked]
        kept = reached(p.cumsum(-1) - p, mass)
        mask = torch.zeros_like(kept).scatter(-1, ranked, kept) if put_back else kept
        return logits.masked_fill(~mask, out)

    return answer


typical_tokens = keeping_mass()


def one_too_few(logits, mass):
    log_p = logits.log_softmax(-1)
    ranked = from_entropy(log_p).argsort(stable=True)
    kept = log_p.exp()[ranked].cumsum(-1) <= mass
    return logits.masked_fill(~torch.zeros_like(kept).scatter(-1, ranked, kept), -torch.inf)


def plain_mean(log_p):
    return (-log_p + log_p[log_p.isfinite()].mean()).abs()


def from_mean_probability(log_p):
    return (log_p.exp() - (log_p.exp() ** 2).sum()).abs()


def distributions(random, masses, words=9, closed=0, unlike=(lambda log_p: -log_p,)):
    """Logits whose kept tokens no rounding can change, and not those that other orders keep; `closed` are ruled out."""
    for mass in masses:
        while True:
            logits = 1.8 * vectors(random, words)
            logits[torch.randperm(words, generator=random)[:closed]] = -torch.inf
            distance, p = from_entropy(logits.log_softmax(-1)), logits.softmax(-1)
            ranked = distance.argsort()[: words - closed]
            clear = distance[ranked].diff().min() > 0.02 and (p[ranked].cumsum(-1) - mass).abs().min() > 0.02
            kept = [keeping_mass(order)(logits, mass) for order in (from_entropy, *unlike)] if clear else []
            if kept and not any(torch.equal(*two) for two in combinations(kept, 2)):
                break
        yield logits, mass


def typical_ones(keep, random):
    """the tokens whose surprise is nearest to the mean surprise, until they hold `mass`; the others get −∞"""
    others = (lambda log_p: -log_p, plain_mean, from_mean_probability)
    keep.compare(distributions(random, (0.2, 0.5, 0.3, 0.7, 0.4, 0.6), unlike=others))


def some_closed(keep, random):
    """also where some tokens are ruled out already"""
    keep.compare(distributions(random, (0.3, 0.5, 0.6), closed=3))


def small_mass(keep, random):
    """a small `mass` still keeps one token"""
    keep.compare(distributions(random, (0.01, 0.01, 0.001)))
    alone = torch.tensor([-torch.inf, 0.5, -torch.inf])
    far = [(logits + level, mass) for level in (3000.0, -3000.0) for logits, mass in distributions(random, (0.4,))]
    keep.compare(
        [(torch.tensor([-1.5]), 0.3), (alone, 0.9), *((logits.round(decimals=1), mass) for logits, mass in far)]
    )


TYPICAL_TOKENS = Exercise(
    name="typical_tokens",
    lesson="hw3",
    title="typical sampling",
    oracle=typical_tokens,
    may_call=(),
    checks={"kept": (typical_ones, some_closed, small_mass)},
    mistakes={
        "it keeps the likeliest tokens, as top-p does: how far −ln p is from its mean counts, on either side": (
            keeping_mass(lambda log_p: -log_p)
        ),
        "it drops the token that crosses `mass`: the one that reaches it stays": one_too_few,
        "it keeps one token too many: it stops when `mass` is reached": keeping_mass(
            reached=lambda before, mass: torch.cat([torch.ones(1, dtype=torch.bool), before[:-1] < mass])
        ),
        "it begins with the tokens farthest from the mean surprise: the nearest come first": keeping_mass(
            lambda log_p: -from_entropy(log_p).nan_to_num(posinf=1e9)
        ),
        "it takes the plain mean of the surprises: likely tokens count more, each as much as its probability": (
            keeping_mass(plain_mean)
        ),
        "it compares probabilities with their mean: surprises are compared, −ln p": keeping_mass(from_mean_probability),
        "what stays is not put back in place: after sorting, a place is a rank, and no token": keeping_mass(
            put_back=False
        ),
        "what is ruled out gets the score 0, and e to the power of 0 is 1: −∞ it must be": keeping_mass(out=0.0),
        "it gives probabilities; the logits are asked for": lambda logits, mass: typical_tokens(logits, mass).softmax(
            -1
        ),
        "where a token is ruled out, its 0 · −∞ is NaN, and so is the mean surprise": keeping_mass(
            lambda log_p: (-log_p + (log_p.exp() * log_p).sum()).abs()
        ),
    },
    hints=(
        "Four steps: the surprises −ln p, their mean (each weighs as much as its p), the distances from it, and the "
        "tokens in the order of their distance until their probabilities reach `mass`.",
        "`argsort` of the distances gives the order. Running sums: `cumsum` of the probabilities in that order. A "
        "token stays if those *before* it hold less than `mass`; so the first always stays.",
        "A token that is ruled out has p = 0 and −ln p = ∞; leave 0 · ∞ out of the mean (`nansum`). And back: "
        "`order[kept]` are the ids of those that stay. Begin with a row of −∞ and put their logits in.",
    ),
)


def spread(logits, less=0):
    """The standard deviation of the logits that are not ruled out; the squares' sum is divided by their number."""
    finite = logits[logits.isfinite()]
    return ((finite - finite.mean()).square().sum() / (len(finite) - less)).sqrt()


def above(line, keep=lambda logits, line: logits >= line, out=-torch.inf):
    def answer(logits, n):
        return logits.masked_fill(~keep(logits, line(logits, n)), out)

    return answer


top_n_sigma = above(lambda logits, n: logits.max() - n * spread(logits))


def bells(random, all_n, words=10, closed=0):
    """Logits of which none lies near the line; some stay and some go."""
    for n in all_n:
        while True:
            logits = 2 * vectors(random, words) + draw(random, -3, 3)
            logits[torch.randperm(words, generator=random)[:closed]] = -torch.inf
            line = logits.max() - n * spread(logits)
            kept = int((logits >= line).sum())
            if (logits - line).abs().min() > 0.05 and 1 < kept < words - closed - 1:
                break
        yield logits, n


def near_the_top(keep, random):
    """what lies within n standard deviations of the largest logit stays; the others get −∞"""
    few = []
    while len(few) < 4:  # of few tokens more would stay if the squares' sum were divided by one less
        [(logits, n)] = bells(random, some(random, (0.7, 1.0, 1.3), 1), words=5)
        if int((logits >= logits.max() - n * spread(logits, less=1)).sum()) > int((top_n_sigma(logits, n) > -99).sum()):
            few.append((logits, n))
    keep.compare([*few, *bells(random, (1.0, 1.5, 0.7, 2.0, 1.0, 1.5, 0.5, 1.2, 1.8, 1.0, 0.8, 1.4))])


def closed_ones(keep, random):
    """tokens that are ruled out already have no part in the standard deviation"""
    keep.compare(bells(random, (0.5, 0.7, 1.2), closed=3))


def all_alike(keep, random):
    """where all logits are the same, all stay; where one is left, it stays"""
    one = torch.full((4,), -torch.inf)
    one[draw(random, 0, 3)] = 1.5
    keep.compare([(torch.full((5,), 2.0), 1.0), (one, 1.0), (torch.tensor([-1.5]), 2.0)])
    on_the_line = torch.tensor([0.0, 4.0, 0.0, 4.0])  # σ is 2, and the line at 4 − 2 · 2, without rounding
    keep.compare((on_the_line + level, 2.0) for level in (0.0, -1024.0))


TOP_N_SIGMA = Exercise(
    name="top_n_sigma",
    lesson="hw3",
    title="top-nσ",
    oracle=top_n_sigma,
    may_call=(),
    checks={"kept": (near_the_top, closed_ones, all_alike)},
    mistakes={
        "it counts from the mean: n standard deviations below the *largest* logit is the line": above(
            lambda logits, n: logits[logits.isfinite()].mean() - n * spread(logits)
        ),
        "it counts up from the mean: n standard deviations below the *largest* logit is the line": above(
            lambda logits, n: logits[logits.isfinite()].mean() + n * spread(logits)
        ),
        "it takes the variance: the standard deviation is its root": above(
            lambda logits, n: logits.max() - n * spread(logits) ** 2
        ),
        "it ignores n": above(lambda logits, n: logits.max() - spread(logits)),
        "it takes n itself for the distance: n standard deviations": above(lambda logits, n: logits.max() - n),
        "it divides by the number of tokens less one: here it is the number itself, `correction=0`": above(
            lambda logits, n: logits.max() - n * spread(logits, less=1)
        ),
        "it works on probabilities: the logits themselves are meant": above(
            lambda logits, n: logits.softmax(-1).max() - n * logits.softmax(-1).std(correction=0),
            lambda logits, line: logits.softmax(-1) >= line,
        ),
        "where a token is ruled out, the standard deviation becomes NaN: leave −∞ out of it": above(
            lambda logits, n: logits.max() - n * logits.std(correction=0)
        ),
        "where a token is ruled out, σ is NaN; below NaN lies nothing, so all stay: take the σ of the others": above(
            lambda logits, n: logits.max() - n * logits.std(correction=0), lambda logits, line: ~(logits < line)
        ),
        "where all logits are the same, nothing stays: a logit on the line stays": above(
            lambda logits, n: logits.max() - n * spread(logits), lambda logits, line: logits > line
        ),
        "what is ruled out gets the score 0, and e to the power of 0 is 1: −∞ it must be": above(
            lambda logits, n: logits.max() - n * spread(logits), out=0.0
        ),
        "it keeps what lies below the line": above(
            lambda logits, n: logits.max() - n * spread(logits), lambda logits, line: logits < line
        ),
    },
    hints=(
        "Two numbers first: the largest logit, and the standard deviation. Their difference, n times the second off "
        "the first, is a line. What lies below it gets −∞.",
        "PyTorch's `std` divides by the number less one unless it is told otherwise: `std(correction=0)`.",
        "`logits[logits.isfinite()]` are those that are not ruled out. A logit that lies exactly on the line stays: "
        "think of five equal logits, whose standard deviation is 0.",
    ),
)


def surprise(logits):
    return -logits.log_softmax(-1) / math.log(2)  # bits


def mirostatic(
    measure=surprise,
    keep=lambda bits, mu: bits <= mu,
    at_least_one=True,
    observed=lambda logits, kept, id: surprise(kept)[id],
    step=lambda mu, bits, tau, eta: mu - eta * (bits - tau),
    shown=lambda kept: kept,
    choose=lambda logits, shown, draw: draw(shown),
    result=lambda id, mu: (id, mu),
):
    def answer(logits, mu, tau, eta, draw):
        stay = keep(measure(logits), mu)
        if at_least_one:
            stay[logits.argmax()] = True
        kept = logits.masked_fill(~stay, -torch.inf)
        id = choose(logits, shown(kept), draw)
        return result(id, float(step(mu, observed(logits, kept, id), tau, eta)))

    return answer


mirostat_step = mirostatic()


def likeliest(logits):
    return int(logits.argmax())


def unlikeliest(logits):
    """The least likely of those that are not ruled out."""
    return int(logits.masked_fill(logits == -torch.inf, torch.inf).argmin())


def second(logits):
    """The second in rank, or the first if it is alone."""
    best = logits.topk(2)
    return int(best.indices[1 if best.values[1] > -torch.inf else 0])


def moods(random, rules, low=1.2, high=4.0, words=8):
    """Logits and a bound that lies well between the surprises of two tokens, measured in bits and in nats."""
    for rule in rules:
        while True:
            logits, mu = 1.6 * vectors(random, words), low + (high - low) * torch.rand((), generator=random).item()
            bits = surprise(logits).sort().values
            kept, kept_in_nats = (int((unit * bits <= mu).sum()) for unit in (1, math.log(2)))
            clear = (bits - mu).abs().min() > 0.05 and 2 < kept < kept_in_nats < words
            if (
                clear and (surprise(logits) > mu).nonzero()[0] != logits.argmin()
            ):  # of those ruled out, another is first
                break
        tau, eta = 1.0 + torch.rand((), generator=random).item(), some(random, (0.1, 0.3, 0.5), 1)[0]
        yield logits, mu, tau, eta, rule


def a_step(step, random):
    """what surprises more than mu bits is ruled out, one of the rest is drawn, and mu goes after tau"""
    step.compare(moods(random, (unlikeliest, likeliest, second, unlikeliest, second, unlikeliest, likeliest)))


def tight(step, random):
    """also where mu is so small that nothing would be left: the likeliest token stays"""
    inputs = []
    for rule, mu in ((unlikeliest, 0.01), (second, -0.5), (likeliest, 0.005)):
        inputs.append((vectors(random, 6), mu, 2.0, 0.2, rule))
    step.compare(inputs)


def at_mu(step, random):
    """a token whose surprise is mu itself is still allowed"""
    inputs = []
    for n, bits in ((2, 1.0), (4, 2.0), (2, 1.0)):
        logits = torch.full((7,), draw(random, -2, 2) - 200.0)  # so unlikely that the sum of all is n, exactly
        logits[torch.randperm(7, generator=random)[:n]] += 200.0
        mu = bits + 3e-8  # what rounding can add in 64 bits, and in 32 bits nothing
        inputs.append((logits, mu, 0.5 + torch.rand((), generator=random).item() / 4, 0.2, second))
    step.compare(inputs)


MIROSTAT_STEP = Exercise(
    name="mirostat_step",
    lesson="hw3",
    title="one step of Mirostat",
    oracle=mirostat_step,
    may_call=(),
    checks={"step": (a_step, tight, at_mu)},
    mistakes={
        "it measures in nats: surprise is counted in bits here, −log₂ p": mirostatic(
            lambda logits: -logits.log_softmax(-1), observed=lambda logits, kept, id: -kept.log_softmax(-1)[id]
        ),
        "it rules out by nats and steers by bits: both are bits": mirostatic(lambda logits: -logits.log_softmax(-1)),
        "it rules out by bits and steers by nats: both are bits": mirostatic(
            observed=lambda logits, kept, id: -kept.log_softmax(-1)[id]
        ),
        "it measures the drawn token's surprise before the cut: among those that are left, it is less": mirostatic(
            observed=lambda logits, kept, id: surprise(logits)[id]
        ),
        "it steers the wrong way: after too much surprise, mu goes down": mirostatic(
            step=lambda mu, bits, tau, eta: mu + eta * (bits - tau)
        ),
        "it forgets tau: mu moves by the difference between surprise and target": mirostatic(
            step=lambda mu, bits, tau, eta: mu - eta * bits
        ),
        "it forgets eta: mu moves by a part of the difference": mirostatic(
            step=lambda mu, bits, tau, eta: mu - (bits - tau)
        ),
        "mu stays as it was": mirostatic(step=lambda mu, bits, tau, eta: mu),
        "the new mu starts from tau: it starts from mu": mirostatic(
            step=lambda mu, bits, tau, eta: tau - eta * (bits - tau)
        ),
        "it rules out what surprises less than tau bits, not mu": mirostatic(keep=lambda bits, mu: bits >= mu),
        "it draws from all tokens: those that surprise more than mu are ruled out first": mirostatic(
            choose=lambda logits, shown, draw: draw(logits)
        ),
        "`draw` gets probabilities: it takes logits": mirostatic(shown=lambda kept: kept.softmax(-1)),
        "it takes the likeliest token: `draw` says which": mirostatic(
            choose=lambda logits, shown, draw: int(logits.argmax())
        ),
        "where mu is small it rules out every token: the likeliest has to stay": mirostatic(at_least_one=False),
        "a token whose surprise is mu itself is ruled out: it is still allowed": mirostatic(
            keep=lambda bits, mu: bits < mu
        ),
        "the two answers are swapped: the id comes first": mirostatic(result=lambda id, mu: (mu, id)),
        "the new mu is missing: the id and mu are asked for": mirostatic(result=lambda id, mu: id),
    },
    hints=(
        "Three steps. Surprises of all tokens in bits, and −∞ for those above mu. Then `draw`. Then the surprise of "
        "what was drawn, and the new mu.",
        "`-logits.log_softmax(-1) / math.log(2)` are the surprises in bits. Put the likeliest token back after the "
        "cut, whatever its surprise: it is at `logits.argmax()`.",
        "After the cut the probabilities of those left are larger: a second `log_softmax`, of the cut logits, gives "
        "the surprise that counts. mu − eta · (surprise − tau): after a surprise above tau, mu is smaller.",
    ),
)
