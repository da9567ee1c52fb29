import pytest
import torch

from course_lib.interpretation.trace import size_in_bytes


@pytest.fixture(scope="module")
def trace(smollm2):
    return smollm2.trace("The dog ran up the")


def test_every_stage_has_its_shape(trace):
    assert trace.raw_bytes == b"The dog ran up the"
    assert trace.tokens == ["The", " dog", " ran", " up", " the"] and len(trace.ids) == 5
    assert b"".join(trace.token_bytes) == trace.raw_bytes
    assert trace.embeddings.shape == (5, 576)
    assert trace.residual_stream.shape == (31, 5, 576)
    assert trace.attention.shape == (30, 9, 5, 5)
    assert trace.logits.shape == trace.probabilities.shape == (49_152,)
    assert len(trace.guesses) == 31
    assert [stage.phase for stage in trace.stages] == [1, 1, 1, 1, 2, 3, 3, 3]
    assert all(stage.seconds > 0 and stage.bytes > 0 for stage in trace.stages)


def test_the_stages_are_the_models_own(smollm2, trace):
    with torch.no_grad():
        logits = smollm2.transformer(torch.tensor([trace.ids]))[0, -1]
    torch.testing.assert_close(trace.logits, logits, atol=1e-3, rtol=1e-4)
    assert torch.equal(trace.embeddings, smollm2.transformer.token_embedding.weight[trace.ids])
    assert torch.equal(trace.residual_stream[0], trace.embeddings)
    torch.testing.assert_close(trace.attention.sum(-1), torch.ones(30, 9, 5))
    assert (trace.attention.triu(1) == 0).all()


def test_the_answer(smollm2, trace):
    assert trace.chosen_token == " hill"
    assert trace.chosen_id == int(trace.logits.argmax())
    assert trace.guesses[-1][0] == " hill" and trace.guesses[-1][1] == pytest.approx(trace.top(1)[0][1], abs=1e-5)
    for (ours, p), (theirs, q) in zip(
        trace.top(5), smollm2.next_token_probabilities("The dog ran up the"), strict=True
    ):
        assert ours == theirs and p == pytest.approx(q, abs=1e-4)


def test_a_gpt2_is_traced_too(tiny, smollm2):
    """No rotary angles there: the position is in the embedding already."""
    from course_lib.llm import LLM

    gpt2 = LLM(smollm2.tokenizer, tiny("gpt2", vocab_size=49_152), set())
    trace = gpt2.trace("The dog")
    expected = gpt2.transformer.token_embedding.weight[trace.ids] + gpt2.transformer.position_embedding.weight[:2]
    torch.testing.assert_close(trace.embeddings, expected.detach())
    assert trace.attention.shape == (3, 6, 2, 2)


def test_bad_prompts_are_a_sentence(smollm2, trace):
    with pytest.raises(ValueError, match="the prompt is empty"):
        smollm2.trace("")
    with pytest.raises(ValueError, match=r"the prompt has \d+ tokens; a trace keeps every attention weight"):
        smollm2.trace("dog " * 300)
    with pytest.raises(ValueError, match="k must be from 1 to 50, got 51"):
        trace.top(51)


def test_sizes():
    assert size_in_bytes((torch.zeros(3), torch.zeros(2, dtype=torch.float16))) == 16
    assert size_in_bytes(b"abc") == 3 and size_in_bytes(7) == 8 and size_in_bytes(None) == 0
