import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.prediction.generation import KVCache, chooser, generate_ids, stop_at

GREEDY = chooser(temperature=0)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize(
    "settings", [dict(temperature=0), dict(seed=3), dict(seed=3, top_p=0.9, repetition_penalty=1.2)]
)
def test_with_and_without_cache_the_ids_are_the_same(tiny, family, settings):
    transformer = tiny(family)
    with_cache, without = (
        list(generate_ids(transformer, [4, 8, 15], chooser(**settings), 20, use_cache=use)) for use in (True, False)
    )
    assert with_cache == without and len(with_cache) == 20


def test_the_same_seed_gives_the_same_ids_and_another_gives_others(tiny):
    transformer = tiny()
    first, again, other = (list(generate_ids(transformer, [1], chooser(seed=s), 20)) for s in (1, 1, 2))
    assert first == again != other


def test_generation_ends_at_a_stop_id_or_a_full_context(tiny):
    transformer = tiny()
    free = list(generate_ids(transformer, [5, 6], GREEDY, 100))
    assert len(free) == 40 - 2  # the context holds 40
    stop = free[7]
    assert list(generate_ids(transformer, [5, 6], GREEDY, 100, stop_ids={stop})) == free[: free.index(stop)]
    assert list(generate_ids(transformer, [5, 6], GREEDY, 0)) == []


def test_each_step_runs_only_the_new_token(tiny, monkeypatch):
    transformer, seen = tiny(), []
    real = transformer.hidden_states
    monkeypatch.setattr(transformer, "hidden_states", lambda ids, cache: seen.append(ids.shape[1]) or real(ids, cache))
    list(generate_ids(transformer, [1, 2, 3], GREEDY, 4))
    assert seen == [3, 1, 1, 1]


def test_half_precision_generates_too(tiny):
    transformer = tiny().to(torch.bfloat16)
    assert len(list(generate_ids(transformer, [1, 2], GREEDY, 5))) == 5


def test_bad_prompts_are_a_sentence(tiny):
    transformer = tiny()
    with pytest.raises(ValueError, match="the prompt is empty"):
        next(generate_ids(transformer, [], GREEDY, 5))
    with pytest.raises(ValueError, match="the prompt has 40 tokens, and the model's context holds 40"):
        next(generate_ids(transformer, [1] * 40, GREEDY, 5))


def test_broken_logits_are_a_sentence(tiny):
    transformer = tiny()
    transformer.final_norm.weight.data[0] = float("nan")
    for choose in (GREEDY, chooser(seed=0)):
        with pytest.raises(ValueError, match="the largest logit is nan: the model's numbers broke down"):
            next(generate_ids(transformer, [1], choose, 5))
    with pytest.raises(ValueError, match="the largest logit is -inf"):
        GREEDY(torch.full((4,), -float("inf")), [0])


def test_settings_are_refused_before_anything_runs():
    for settings, sentence in (
        (dict(temperature=-1), "temperature must be above 0"),
        (dict(top_p=0), "top_p must be in"),
        (dict(top_p=0, temperature=0), "top_p must be in"),
        (dict(top_k=0), "top_k must be a whole number"),
        (dict(min_p=2.0), "min_p must be in"),
        (dict(repetition_penalty=0.0), "repetition_penalty must be above 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            chooser(**settings)


def test_a_full_cache_says_so(tiny):
    transformer = tiny()
    cache = KVCache(transformer.config, max_length=3)
    with pytest.raises(ValueError, match="holds 3 positions, and position 4"), torch.no_grad():
        transformer(torch.tensor([[1, 2, 3, 4]]), cache)


def expected(text, stops):
    """Letter by letter: as soon as the text ends with a stop string, the longest such is cut off."""
    for end in range(len(text) + 1):
        if cuts := [len(stop) for stop in stops if text[:end].endswith(stop)]:
            return text[: end - max(cuts)]
    return text


@given(st.lists(st.text("ab\n", max_size=4)), st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3))
def test_stop_strings_may_lie_across_pieces(pieces, stops):
    assert "".join(stop_at(iter(pieces), stops)) == expected("".join(pieces), stops)


def test_nothing_of_a_stop_string_is_shown_early_and_nothing_else_is_held_back():
    shown = list(stop_at(iter(["one ", "two\n", "\nthree"]), ["\n\n"]))
    assert shown == ["one ", "two", ""]
    assert list(stop_at(iter(["one\n", "two"]), ["\n\n"])) == ["one", "\ntwo", ""]
    assert list(stop_at(iter(["one", " two"]), [])) == ["one", " two", ""]


def test_an_endless_stream_ends_at_the_stop():
    def endless():
        while True:
            yield "la "

    assert "".join(stop_at(endless(), ["la la la"])) == ""
