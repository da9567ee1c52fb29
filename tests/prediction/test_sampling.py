import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import generation as hf

from course_lib.prediction import sampling
from course_lib.prediction.logits import softmax

INF = float("inf")
NONE = torch.zeros(1, 1, dtype=torch.long)


def random_logits(seed, vocab=300):
    return torch.randn(2, vocab, generator=torch.Generator().manual_seed(seed)) * 4


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31))
def test_softmax_equals_torch(seed):
    logits = random_logits(seed)
    torch.testing.assert_close(softmax(logits), logits.softmax(-1))
    torch.testing.assert_close(softmax(logits + 1e4), logits.softmax(-1), atol=1e-3, rtol=1e-3)  # no overflow


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.05, 5), st.integers(1, 400), st.floats(0.01, 0.999), st.floats(0.001, 1))
def test_each_method_equals_transformers(seed, t, k, p, m):
    logits = random_logits(seed)
    pairs = [
        (sampling.temperature(logits, t), hf.TemperatureLogitsWarper(t)),
        (sampling.top_k(logits, k), hf.TopKLogitsWarper(k)),
        (sampling.top_p(logits, p), hf.TopPLogitsWarper(p)),
        (sampling.min_p(logits, m), hf.MinPLogitsWarper(m)),
    ]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs(NONE, logits.clone()))
    ids = torch.randint(300, (2, 20), generator=torch.Generator().manual_seed(seed))
    penalised = hf.RepetitionPenaltyLogitsProcessor(1 + m)(ids, logits.clone())
    torch.testing.assert_close(sampling.repetition_penalty(logits, ids, 1 + m), penalised)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.2, 3), st.integers(1, 60), st.floats(0.1, 0.999), st.floats(0.001, 0.5))
def test_composed_in_any_order_and_with_tokens_ruled_out_they_still_equal_transformers(seed, t, k, p, m):
    source = torch.Generator().manual_seed(seed)
    logits = random_logits(seed).masked_fill(torch.rand(2, 300, generator=source) < 0.3, -INF)
    ids = torch.randint(300, (2, 20), generator=source)
    pairs = [
        (lambda x: sampling.repetition_penalty(x, ids, 1 + m), hf.RepetitionPenaltyLogitsProcessor(1 + m)),
        (lambda x: sampling.temperature(x, t), hf.TemperatureLogitsWarper(t)),
        (lambda x: sampling.top_k(x, k), hf.TopKLogitsWarper(k)),
        (lambda x: sampling.top_p(x, p), hf.TopPLogitsWarper(p)),
        (lambda x: sampling.min_p(x, m), hf.MinPLogitsWarper(m)),
    ]
    ours, theirs = logits, logits.clone()
    for place in torch.randperm(len(pairs), generator=source).tolist():
        ours, theirs = pairs[place][0](ours), pairs[place][1](ids, theirs)
    torch.testing.assert_close(ours, theirs)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_every_row_of_a_batch_is_treated_by_itself(seed):
    source = torch.Generator().manual_seed(seed)
    logits, ids = torch.randn(2, 3, 20, generator=source), torch.randint(20, (2, 3, 5), generator=source)
    for method, setting in (
        (sampling.temperature, 0.7),
        (sampling.top_k, 4),
        (sampling.top_p, 0.6),
        (sampling.min_p, 0.2),
    ):
        whole = method(logits, setting)
        assert all(torch.equal(whole[i, j], method(logits[i, j], setting)) for i in range(2) for j in range(3))
    whole = sampling.repetition_penalty(logits, ids, 1.3)
    assert torch.equal(whole[1, 2], sampling.repetition_penalty(logits[1, 2], ids[1, 2], 1.3))


def kept(logits):
    return torch.isfinite(logits).nonzero().flatten().tolist()


def test_top_p_keeps_the_token_that_crosses_p():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert kept(sampling.top_p(logits, 0.4)) == [0]
    assert kept(sampling.top_p(logits, 0.6)) == [0, 1]
    assert kept(sampling.top_p(logits, 0.81)) == [0, 1, 2]
    assert kept(sampling.top_p(logits, 1e-9)) == [0]
    assert torch.equal(sampling.top_p(logits, 1), logits)


def test_ties_infinities_and_a_one_token_vocabulary():
    ties = torch.tensor([1.0, 3.0, 3.0, 3.0, 0.0])
    assert int(sampling.greedy(ties)) == 1
    assert kept(sampling.top_k(ties, 1)) == [1, 2, 3]  # nothing tells them apart
    assert kept(sampling.top_p(ties, 0.5)) == [1, 2]  # two of three hold half: the lower ids first
    ruled_out = torch.tensor([-INF, 2.0, -INF, 1.0])
    for method, setting in ((sampling.top_k, 3), (sampling.top_p, 0.999), (sampling.min_p, 0.01)):
        assert kept(method(ruled_out, setting)) == [1, 3]
    assert kept(sampling.min_p(ties, 1.0)) == [1, 2, 3]
    assert kept(sampling.top_k(ties, 9)) == [0, 1, 2, 3, 4]
    assert sampling.repetition_penalty(ruled_out, torch.tensor([0, 1]), 2.0).tolist() == [-INF, 1.0, -INF, 1.0]
    assert sampling.temperature(ruled_out, 0.5).tolist() == [-INF, 4.0, -INF, 2.0]
    one = torch.tensor([-2.5])
    assert sampling.draw(one, torch.Generator()) == 0 == int(sampling.greedy(one))
    for method, setting in ((sampling.top_k, 5), (sampling.top_p, 0.1), (sampling.min_p, 1.0)):
        assert method(one, setting).tolist() == [-2.5]


def test_top_p_keeps_the_same_of_a_whole_vocabulary_in_half_precision():
    logits = (torch.randn(49_152, generator=torch.Generator().manual_seed(0)) * 3).bfloat16()
    for p in (0.5, 0.9, 0.99):
        assert kept(sampling.top_p(logits, p)) == kept(sampling.top_p(logits.float(), p))


def test_repetition_penalty_counts_a_repeated_id_once():
    logits = torch.tensor([2.0, -2.0, 1.0])
    once = sampling.repetition_penalty(logits, torch.tensor([0, 1]), 2.0)
    assert once.tolist() == [1.0, -4.0, 1.0]
    assert torch.equal(once, sampling.repetition_penalty(logits, torch.tensor([0, 0, 0, 1, 1]), 2.0))


def test_draws_follow_the_probabilities():
    """Chi-square over 20,000 draws; 27.9 is passed by chance once in a thousand at 9 degrees of freedom."""
    logits = torch.randn(12, generator=torch.Generator().manual_seed(5))
    logits[[3, 11]] = -INF
    source, n = torch.Generator().manual_seed(7), 20_000
    counts = torch.bincount(torch.tensor([sampling.draw(logits, source) for _ in range(n)]), minlength=12)
    expected = logits.softmax(-1) * n
    assert counts[[3, 11]].tolist() == [0, 0]
    possible = expected > 0
    assert ((counts - expected)[possible] ** 2 / expected[possible]).sum() < 27.9


@pytest.mark.parametrize("scores", [[-INF, -INF], [0.0, float("nan")], [1.0, INF]])
def test_where_nothing_is_largest_it_says_so(scores):
    for logits in (torch.tensor(scores), torch.tensor([[1.0, 2.0], scores])):
        with pytest.raises(ValueError, match="there is no largest logit"):
            sampling.greedy(logits)


@pytest.mark.parametrize("scale", [1e-320, 1e39, True, "x", None, torch.tensor([1.0, 2.0])])
def test_a_scale_that_no_logit_has_is_refused(scale, bad_input):
    for setting in (dict(temperature=scale), dict(repetition_penalty=scale)):
        with pytest.raises(ValueError, match=f"{next(iter(setting))} must be above 0 and finite"):
            sampling.Sampling(**setting)


def test_where_nothing_can_be_drawn_it_says_so():
    for scores, largest in (([-INF, -INF], "-inf"), ([0.0, float("nan")], "nan"), ([1.0, INF], "inf")):
        with pytest.raises(ValueError, match=f"nothing can be drawn: the largest logit is {largest}"):
            sampling.draw(torch.tensor(scores), torch.Generator())
    with pytest.raises(ValueError, match="nothing can be drawn"):  # so small a temperature that scores overflow
        sampling.draw(sampling.temperature(torch.tensor([1.0, 2.0]), 1e-39), torch.Generator())


def test_a_seed_draws_the_same_token_though_the_last_digits_differ():
    """What two machines compute differs by a rounding error; the draws must not."""
    logits = torch.randn(49_152, generator=torch.Generator().manual_seed(1)) * 3
    noise = torch.randn(49_152, generator=torch.Generator().manual_seed(2)) * 1e-5
    one, other = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    assert all(sampling.draw(logits, one) == sampling.draw(logits + noise, other) for _ in range(300))


@pytest.mark.parametrize(
    ("method", "setting", "sentence"),
    [
        ("temperature", 0.0, "temperature must be above 0"),
        ("temperature", -1.0, "temperature must be above 0 .*, got -1"),
        ("temperature", float("nan"), "temperature must be above 0 .*, got nan"),
        ("temperature", INF, "temperature must be above 0 and finite"),
        ("top_k", 0, "top_k must be a whole number of at least 1, got 0"),
        ("top_p", 0.0, r"top_p must be in \(0, 1\], got 0"),
        ("top_p", 1.5, r"top_p must be in \(0, 1\], got 1.5"),
        ("min_p", -0.1, r"min_p must be in \(0, 1\], got -0.1"),
    ],
)
def test_settings_out_of_range_are_a_sentence(method, setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        getattr(sampling, method)(torch.zeros(3), setting)


def test_a_penalty_out_of_range_is_a_sentence():
    with pytest.raises(ValueError, match="repetition_penalty must be above 0"):
        sampling.repetition_penalty(torch.zeros(3), torch.tensor([0]), 0.0)


ALL = dict(temperature=0.7, top_k=9, top_p=0.9, min_p=0.02, repetition_penalty=1.3)


def test_all_settings_are_applied_in_one_order_and_those_that_are_off_are_no_step():
    assert [name for name, _ in sampling.Sampling(**ALL).steps()] == [
        *("repetition penalty 1.3", "temperature 0.7", "top-k 9", "top-p 0.9", "min-p 0.02")
    ]
    off = sampling.Sampling(temperature=0, top_p=1.0)
    assert list(sampling.Sampling().steps()) == list(off.steps()) == []
    logits, ids = random_logits(5)[0], [3, 7, 7]
    adjusted = sampling.repetition_penalty(logits, torch.tensor(ids), 1.3)
    for method, value in (("temperature", 0.7), ("top_k", 9), ("top_p", 0.9), ("min_p", 0.02)):
        adjusted = getattr(sampling, method)(adjusted, value)
    assert torch.equal(sampling.Sampling(**ALL).adjust(logits, ids), adjusted)
    assert sampling.Sampling(**ALL) == sampling.Sampling(**ALL) in {sampling.Sampling(**ALL)}


@pytest.mark.parametrize(
    "setting, sentence",
    [
        (dict(temperature=-1), "temperature must be above 0"),
        (dict(temperature=INF), "temperature must be above 0 and finite"),
        (dict(top_k=0), "top_k must be a whole number of at least 1, got 0"),
        (dict(top_k="x"), "top_k must be a whole number of at least 1, got 'x'"),
        (dict(top_p=0), r"top_p must be in \(0, 1\], got 0"),
        (dict(min_p=2), r"min_p must be in \(0, 1\], got 2"),
        (dict(repetition_penalty=0), "repetition_penalty must be above 0"),
    ],
)
def test_a_setting_out_of_range_is_refused_at_once(setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        sampling.Sampling(**setting)


def test_a_setting_that_does_not_exist_is_named():
    with pytest.raises(TypeError, match="top_q"):
        sampling.Sampling(top_q=0.5)


def test_each_step_is_its_part_of_the_whole_and_the_methods_may_be_ones_own():
    chosen, logits, ids = sampling.Sampling(**ALL), random_logits(5)[0], [3, 7, 7]
    expected, called = chosen.adjust(logits, ids), []

    def watched(name):
        return lambda *given: called.append(name) or sampling.METHODS[name](*given)

    assert torch.equal(chosen.adjust(logits, ids, {name: watched(name) for name in sampling.METHODS}), expected)
    assert called == ["repetition_penalty", "temperature", "top_k", "top_p", "min_p"]
    for _, step in chosen.steps():
        logits = step(logits, ids)
    assert torch.equal(logits, expected)
