import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from course_lib.input_processing.batching import pad
from course_lib.prediction.generation import choose_each, chooser, generate_batch, generate_ids, stop_at
from course_lib.prediction.kv_cache import KVCache

GREEDY = chooser(temperature=0)
SCHEMES = ["rope", "alibi", "none", "learned", "sinusoidal"]
PROMPTS = [[3, 5, 9, 2, 4, 7], [8], [6, 6, 2, 11], [1, 30]]


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


# ---- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", SCHEMES)
def test_a_row_with_its_own_positions_is_the_row_alone(tiny, positions):
    """Padded on the left, in one go and with a cache: where learned and sinusoidal positions would have shifted."""
    transformer = tiny("gpt2" if positions == "learned" else "llama", positions=positions)
    ids, real = pad(PROMPTS, 0, "left")
    own = (real.cumsum(1) - 1).clamp(min=0)
    cache = KVCache(transformer.config, 6, batch=4)
    with torch.no_grad():
        whole = transformer.hidden_states(ids, mask=real[:, None], positions=own)
        parts = [
            transformer.hidden_states(ids[:, a:b], cache, real[:, None, :b], own[:, a:b]) for a, b in ((0, 4), (4, 6))
        ]
        torch.testing.assert_close(torch.cat(parts, dim=1)[real], whole[real], atol=1e-4, rtol=1e-4)
        for row, prompt in enumerate(PROMPTS):
            alone = transformer.hidden_states(torch.tensor([prompt]))[0]
            torch.testing.assert_close(whole[row][real[row]], alone, atol=1e-4, rtol=1e-4)


def test_negative_positions_and_a_mask_that_lets_nobody_look_are_refused(tiny):
    ids = torch.tensor([[1, 2]])
    with pytest.raises(ValueError, match=r"positions must be 0 or more, .*, got -1"):
        tiny().hidden_states(ids, positions=torch.tensor([[-1, 0]]))
    with pytest.raises(ValueError, match="mask must let some query look at some key"):
        tiny().hidden_states(ids, mask=torch.zeros(1, 2, 2, dtype=torch.bool))


def test_what_a_function_of_your_own_gives_is_an_id(tiny):
    """A tensor is none of the numbers that stop: it would never end."""
    transformer = tiny()
    assert list(generate_ids(transformer, [1], lambda logits, ids: torch.tensor(7), 3, {7})) == []
    for wrong in (50, -1, 1.5, None, True):

        def choose(logits, ids, wrong=wrong):
            return wrong

        for generate in (
            lambda: list(generate_ids(transformer, [1], choose, 3)),
            lambda: generate_batch(transformer, [[1]], [choose], 3),
        ):
            with pytest.raises(ValueError, match="what choose gives must be a whole number from 0 to 49"):
                generate()


def test_a_position_past_the_context_is_refused(tiny):
    with pytest.raises(ValueError, match="41 tokens do not fit into the model's context of 40"):
        tiny().hidden_states(torch.tensor([[1, 2]]), positions=torch.tensor([[3, 40]]))


@pytest.mark.parametrize("positions", SCHEMES)
def test_a_batch_gives_each_prompt_what_it_gets_alone(tiny, positions):
    """Unequal prompts, a draw of its own for each row, some rows cut short by a stop id, others by the context."""
    family = "gpt2" if positions == "learned" else "llama"
    transformer = tiny(family, positions=positions, context_length=16).double()

    def choosers():
        settings = [dict(temperature=0)] + 3 * [dict(top_p=0.9, repetition_penalty=1.2)]
        return [chooser(seed=seed, **setting) for seed, setting in enumerate(settings)]

    def alone(stop_ids, new):
        rows = zip(PROMPTS, choosers(), strict=True)
        return [list(generate_ids(transformer, prompt, choose, new, stop_ids)) for prompt, choose in rows]

    free = alone((), 100)
    assert [len(row) for row in free] == [16 - len(prompt) for prompt in PROMPTS]  # the context is full
    assert generate_batch(transformer, PROMPTS, choosers(), 100) == free
    stops = {free[0][3], free[2][0]}
    stopped = alone(stops, 9)
    assert len(stopped[0]) <= 3 and stopped[2] == []
    assert generate_batch(transformer, PROMPTS, choosers(), 9, stops) == stopped


def test_a_row_that_has_ended_is_no_longer_run(tiny, monkeypatch):
    transformer, runs = tiny(), []
    real = transformer.hidden_states
    monkeypatch.setattr(transformer, "hidden_states", lambda ids, *rest: runs.append(ids.shape) or real(ids, *rest))
    told = []

    def ended(row, id):
        told.append(row)
        return row == 1 or told.count(row) == 3

    ids = generate_batch(transformer, [[1, 2, 3], [4], [5]], [GREEDY] * 3, 9, ended=ended)
    assert runs == [(3, 3), (2, 1), (2, 1)] and told == [0, 1, 2, 0, 2, 0, 2] and [len(row) for row in ids] == [3, 1, 3]
    assert generate_batch(transformer, [[1], [2]], [GREEDY] * 2, 0) == [[], []] and len(runs) == 3


def test_a_batch_that_cannot_be_is_refused(tiny):
    transformer = tiny()
    for prompts, choosers, sentence in (
        ([], [], "prompts is empty: give at least one prompt"),
        ([[1], [2]], [GREEDY], "got 1 for 2 prompts"),
        ([[1], []], [GREEDY] * 2, "the prompt is empty"),
        ([[1], [1] * 40], [GREEDY] * 2, "the prompt has 40 tokens"),
    ):
        with pytest.raises(ValueError, match=sentence):
            generate_batch(transformer, prompts, choosers, 5)


class Reads(TorchDispatchMode):
    """Counts what makes the host wait for a GPU, where there is one: a number read, or a shape that numbers decide."""

    WAITS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation in self.WAITS
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("settings", [dict(), dict(n_experts=3, n_active_experts=2)], ids=["dense", "experts"])
@pytest.mark.parametrize(
    "sampling", [dict(temperature=0), dict(top_k=9, top_p=0.9, min_p=0.01, repetition_penalty=1.2, seed=1)]
)
def test_a_step_reads_at_most_one_number(tiny, settings, sampling):
    """On a GPU each would be a wait. tests/test_fake_gpu.py counts the copies, too, where torch is a CUDA build."""
    transformer, steps = tiny(**settings), 6
    with Reads() as reads:
        assert len(list(generate_ids(transformer, [3, 5, 9], chooser(**sampling), steps))) == steps
    assert reads.count <= steps
    with Reads() as reads:
        ids = generate_batch(transformer, PROMPTS, [chooser(**sampling) for _ in PROMPTS], steps)
    assert list(map(len, ids)) == [steps] * len(PROMPTS) and reads.count <= steps


@pytest.mark.parametrize("temperature", [0, 0.7])
def test_a_row_that_broke_down_is_a_sentence_and_so_is_a_setting_that_breaks_it(temperature):
    choosers = [chooser(temperature=temperature)] * 2
    with pytest.raises(ValueError, match="the largest logit is nan: the model's numbers broke down"):
        choose_each(choosers, torch.tensor([[1.0, 2.0], [1.0, float("nan")]]), [[0], [0]])
    with pytest.raises(ValueError, match="nothing can be drawn: the largest logit is inf"):
        chooser(temperature=1e-39)(torch.tensor([1.0, 2.0]), [0])


def test_functions_of_your_own_choose_beside_the_librarys(tiny):
    def second(logits, ids):
        return int(logits.topk(2).indices[1])

    transformer = tiny()
    alone = [generate_batch(transformer, [[7, 8]], [choose], 5)[0] for choose in (GREEDY, second)]
    assert generate_batch(transformer, [[7, 8]] * 2, [GREEDY, second], 5) == alone


# ---- the cache ------------------------------------------------------------------------------------


def test_what_is_rewound_is_written_over(tiny):
    transformer = tiny()
    cache = KVCache(transformer.config, max_length=6)
    with torch.no_grad():
        transformer(torch.tensor([[1, 2, 9, 9, 9]]), cache)
        cache.rewind(2)
        rest = transformer(torch.tensor([[3, 4, 5]]), cache)
        whole = transformer(torch.tensor([[1, 2, 3, 4, 5]]))
    torch.testing.assert_close(rest, whole[:, 2:], atol=1e-4, rtol=1e-4)
    for length in (6, -1):
        with pytest.raises(ValueError, match="length must be from 0 to 5, the positions that are kept"):
            cache.rewind(length)


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
