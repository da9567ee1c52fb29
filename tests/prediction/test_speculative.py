from collections import Counter
from functools import cache
from itertools import product
from math import isnan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.prediction import speculative
from course_lib.prediction.generation import chooser, generate_ids, new_generator
from course_lib.prediction.logits import softmax
from course_lib.prediction.sampling import Sampling
from course_lib.prediction.speculative import Round, accept_or_reject, acceptance_rate, prompt_lookup, speculate

SMALL = dict(vocab_size=4, d_model=8, n_heads=2, n_kv_heads=1, d_ff=8)
PROMPT = [1, 3]
SETTINGS = [dict(), dict(temperature=0.7, top_k=3, repetition_penalty=1.3)]


@pytest.fixture
def pair(tiny):
    """A target and a draft that differ a lot, over four tokens."""
    target, draft = tiny(**SMALL, n_layers=2), tiny(**SMALL, n_layers=1)
    for model, turn in ((target, False), (draft, True)):
        table = model.token_embedding.weight.data * 2.5
        model.token_embedding.weight.data = table.flip(1) if turn else table
    return target, draft


def ids_of(rounds):
    return [id for one in rounds for id in one.ids]


# ---- one guess ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "q"),
    [
        ([0.5, 0.3, 0.2, 0.0], [0.1, 0.3, 0.1, 0.5]),
        ([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]),
        ([0.3, 0.3, 0.4, 0.0], [0.0, 0.0, 0.0, 1.0]),  # a draft that is always wrong
        ([0.6, 0.1, 0.2, 0.1], [0.0, 1.0, 0.0, 0.0]),  # a guess without chances
    ],
)
def test_one_token_has_the_targets_distribution_and_is_accepted_as_often_as_the_two_overlap(p, q):
    """16.3: chi-square passed by chance once in a thousand at 3 degrees of freedom."""
    p, q = torch.tensor(p, dtype=torch.float64), torch.tensor(q, dtype=torch.float64)
    source, n = new_generator(7), 3000
    guesses = torch.multinomial(q, n, replacement=True, generator=source).tolist()
    judged = [accept_or_reject(p, q, guess, source) for guess in guesses]
    assert all(kept == (id == guess) for (id, kept), guess in zip(judged, guesses, strict=True))
    counts = torch.bincount(torch.tensor([id for id, _ in judged]), minlength=4)
    possible = p > 0
    assert counts[~possible].sum() == 0
    assert ((counts - n * p)[possible] ** 2 / (n * p)[possible]).sum() < 16.3
    overlap = torch.minimum(p, q).sum().item()
    accepted = sum(kept for _, kept in judged) / n
    assert abs(accepted - overlap) <= 4 * (overlap * (1 - overlap) / n) ** 0.5 + 1e-12


# ---- whole texts ----------------------------------------------------------------------------------


@cache
def logits_after(transformer, ids):
    with torch.no_grad():
        return transformer(torch.tensor([ids]))[0, -1]


class Remembering:
    """What a model says after each text, computed once without a cache: thousands of texts over four tokens are few."""

    def __init__(self, transformer, length):
        self.transformer = transformer

    def read(self, ids, n):
        ends = range(len(ids) - n + 1, len(ids) + 1)
        return torch.stack([logits_after(self.transformer, tuple(ids[:end])) for end in ends])


@pytest.fixture
def remembering(monkeypatch):
    """Nothing is computed twice: thousands of short texts take seconds."""
    compute = cache(speculative._probabilities)
    known = {}

    def probabilities(settings):
        def look_up(logits, ids):
            key = (settings, *logits.tolist(), *ids)
            if key not in known:
                known[key] = compute(settings)(logits, ids)
            return known[key]

        return look_up

    monkeypatch.setattr(speculative, "_Reader", Remembering)
    monkeypatch.setattr(speculative, "_probabilities", probabilities)


def distribution(target, n, settings):
    """The chance of each sequence of n tokens after the prompt: the product of the target's own for each of them."""
    adjust, chances = Sampling(**settings).adjust, {}
    for sequence in product(range(4), repeat=n):
        ids, chance = list(PROMPT), 1.0
        for id in sequence:
            chance *= softmax(adjust(logits_after(target, tuple(ids)), ids).double())[id].item()
            ids.append(id)
        chances[sequence] = chance
    assert sum(chances.values()) == pytest.approx(1)
    return chances


def excess(target, draft, settings, draws=1500):
    """Chi-square of sampled texts of three tokens against the enumerated ones, in standard deviations above its mean.

    Sequences too rare to be counted alone are counted together.
    """
    chances, counts = distribution(target, 3, settings), Counter()
    for seed in range(draws):
        counts[tuple(ids_of(speculate(target, draft, PROMPT, 3, n_guesses=2, seed=seed, **settings)))] += 1
    if any(chances[sequence] == 0 for sequence in counts):
        return float("inf")
    cells = [(counts[sequence], draws * p) for sequence, p in chances.items() if draws * p >= 5]
    cells.append((draws - sum(seen for seen, _ in cells), draws - sum(expected for _, expected in cells)))
    statistic = sum((seen - expected) ** 2 / expected for seen, expected in cells if expected > 1e-6)
    freedom = len(cells) - 1
    assert freedom > 15
    return (statistic - freedom) / (2 * freedom) ** 0.5


def always(target, draft, token, generator):
    return token, True


def drawn_again(target, draft, token, generator):
    """A guess that is refused is replaced by a draw from the whole target, not from its excess."""
    if torch.rand((), generator=generator) * draft[token] < target[token]:
        return token, True
    return int(torch.multinomial(target, 1, generator=generator)), False


def only_the_better(target, draft, token, generator):
    """What the target likes less than the draft is refused always, not in proportion."""
    if draft[token] <= target[token]:
        return token, True
    return speculative.sampling.draw((target - draft).clamp(min=0).log(), generator), False


@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "adjusted"])
def test_the_distribution_is_the_targets(pair, settings, remembering):
    assert abs(excess(*pair, settings)) < 3


def test_so_it_is_with_guesses_from_the_text(pair, remembering):
    assert abs(excess(pair[0], lambda ids, n: [ids[-1], ids[-2]][:n], {})) < 3


@pytest.mark.parametrize("rule", [always, drawn_again, only_the_better])
def test_a_wrong_rule_would_show(pair, rule, remembering, monkeypatch):
    monkeypatch.setattr(speculative, "accept_or_reject", rule)
    assert excess(*pair, {}, draws=600) > 10


@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "adjusted"])
def test_caches_that_are_rewound_say_what_whole_runs_say(pair, settings, monkeypatch):
    def rounds():
        return [list(speculate(*pair, PROMPT, 9, n_guesses=3, seed=seed, **settings)) for seed in range(5)]

    with_cache = rounds()
    monkeypatch.setattr(speculative, "_Reader", Remembering)
    assert with_cache == rounds()
    lengths = {one.accepted for said in with_cache for one in said}
    assert lengths == {0, 1, 2, 3}


@pytest.mark.parametrize("positions", ["rope", "learned"])
@pytest.mark.parametrize("n_guesses", [1, 4])
def test_greedy_is_the_targets_greedy_text(tiny, positions, n_guesses):
    """To the end of the context, up to a stop id, with a draft that reads less far, or with guesses from the text."""
    family = "gpt2" if positions == "learned" else "llama"
    target = tiny(family, context_length=16).double()
    draft = tiny(family, n_layers=1, context_length=9).double()
    prompt = [4, 8, 15, 4, 8]
    free = list(generate_ids(target, prompt, chooser(temperature=0), 100))
    assert len(free) == 11
    stop = free[7]
    for guess in (draft, target, prompt_lookup, lambda ids, n: []):
        rounds = list(speculate(target, guess, prompt, 100, n_guesses, temperature=0))
        assert ids_of(rounds) == free
        assert all(len(one.ids) == one.accepted + 1 for one in rounds)
        stopped = speculate(target, guess, prompt, 100, n_guesses, stop_ids={stop}, temperature=0)
        assert ids_of(stopped) == free[: free.index(stop)]
    assert ids_of(speculate(target, target, prompt, 4, n_guesses, temperature=0)) == free[:4]
    assert list(speculate(target, draft, prompt, 0)) == []


def test_a_draft_that_is_the_target_is_always_right_and_each_run_is_short(tiny, monkeypatch):
    target, runs = tiny().double(), []
    real = target.hidden_states
    monkeypatch.setattr(target, "hidden_states", lambda ids, cache: runs.append(ids.shape[1]) or real(ids, cache))
    rounds = list(speculate(target, target, [1, 2, 3], 20, n_guesses=4, seed=1))
    assert acceptance_rate(rounds) == 1.0
    assert [len(one.ids) for one in rounds] == [5, 5, 5, 5]
    of_the_target = [7, 5, 5, 5]  # the prompt and four guesses; then the last token and four guesses
    of_the_draft = [3, 1, 1, 1] + 3 * [2, 1, 1, 1]  # at first two: the last guess and the target's own token
    expected = []
    for i, own in enumerate(of_the_target):
        expected += [*of_the_draft[4 * i : 4 * i + 4], own]
    assert runs == expected


def test_acceptance_rate():
    rounds = [Round((1, 2, 3), 2, (1, 2, 7)), Round((4,), 1, (4, 5)), Round((), 0, (6,))]
    assert acceptance_rate(rounds) == 0.75
    assert isnan(acceptance_rate(rounds[2:]))


# ---- guesses from the text ------------------------------------------------------------------------


def test_prompt_lookup_by_hand():
    assert prompt_lookup([5, 6, 7, 8, 9, 5, 6, 7], 2) == [8, 9]
    assert prompt_lookup([1, 2, 3, 2, 4, 2], 9) == [4, 2]  # the latest of two places, and what there is
    assert prompt_lookup([1, 2, 9, 3, 2, 8, 1, 2], 1) == [9]  # two tokens that match are better than one
    assert prompt_lookup([7, 7, 7], 4) == [7]
    assert prompt_lookup([1, 2, 3], 4) == prompt_lookup([1], 4) == []


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(1, 5))
def test_what_is_looked_up_stood_behind_the_same_token(ids, n):
    guesses = prompt_lookup(ids, n)
    assert len(guesses) <= n
    assert bool(guesses) == (ids[-1] in ids[:-1])
    before = [i for i, id in enumerate(ids[:-1]) if id == ids[-1]]
    assert not guesses or any(ids[i + 1 : i + 1 + len(guesses)] == guesses for i in before)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (dict(prompt=[]), "the prompt is empty"),
        (dict(prompt=[1] * 40), "the prompt has 40 tokens"),
        (dict(n_guesses=0), "n_guesses must be at least 1"),
        (dict(top_p=0), r"top_p must be in \(0, 1\]"),
    ],
)
def test_what_cannot_be_is_refused(tiny, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        next(speculate(**(dict(target=tiny(), draft=tiny(), prompt=[1], max_new_tokens=3) | given)))


def test_a_draft_with_another_vocabulary_is_refused(tiny):
    with pytest.raises(ValueError, match="draft must have the target's vocabulary of 50, got 60"):
        next(speculate(tiny(), tiny(vocab_size=60), [1], 3))
