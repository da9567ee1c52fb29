import copy

import pytest
import torch

from course_lib.interpretation.lens import logit_lens, residual_stream


@torch.no_grad()
def test_each_depth_is_a_model_that_stops_there(model, ids):
    """Stream and lens at depth i are those of a copy that has the first i blocks alone."""
    stream = residual_stream(model, ids)
    logits = logit_lens(model, stream)
    assert stream.shape == (4, 2, 9, 24) and logits.shape == (4, 2, 9, 50)
    assert stream.device.type == logits.device.type == "cpu"
    for depth in range(4):
        stopped = copy.deepcopy(model)
        stopped.blocks = stopped.blocks[:depth]
        torch.testing.assert_close(logits[depth], stopped(ids), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model.final_norm(stream[depth]), stopped.hidden_states(ids), atol=1e-5, rtol=1e-5)
    assert torch.equal(stream[0], model.embed(ids))
    assert torch.equal(logits[3], model(ids))


def test_one_text_or_several(model, ids):
    together = residual_stream(model, ids)
    for row in range(2):
        alone = residual_stream(model, ids[row])
        assert alone.shape == (4, 9, 24)
        torch.testing.assert_close(together[:, row], alone, atol=1e-5, rtol=1e-5)
    vector = logit_lens(model, together[2, 1, 5])
    torch.testing.assert_close(vector, logit_lens(model, together)[2, 1, 5], atol=1e-5, rtol=1e-5)


def test_nothing_is_kept_for_gradients_and_nothing_changes(tiny, ids):
    model = tiny().train()
    stream = residual_stream(model, ids)
    assert not stream.requires_grad and not logit_lens(model, stream).requires_grad
    assert model.training and torch.is_grad_enabled()


def test_a_model_in_half_precision(tiny, ids):
    model = tiny().to(torch.bfloat16)
    stream = residual_stream(model, ids)
    assert stream.dtype == torch.bfloat16
    torch.testing.assert_close(logit_lens(model, stream.float()), logit_lens(model, stream))


def test_bad_input_is_a_sentence(tiny, monkeypatch):
    model = tiny()
    with pytest.raises(ValueError, match=r"ids is empty, its shape is \(2, 0\)"):
        residual_stream(model, torch.zeros(2, 0, dtype=torch.long))
    with pytest.raises(ValueError, match="41 tokens do not fit into the model's context of 40"):
        residual_stream(model, torch.zeros(41, dtype=torch.long))
    with pytest.raises(ValueError, match="ids must be from 0 to 49, the model's vocabulary, got 99"):
        residual_stream(model, torch.tensor([99]))
    with pytest.raises(
        ValueError, match=r"stream must have the model's width in its last dimension, 24, got \(2, 23\)"
    ):
        logit_lens(model, torch.zeros(2, 23))
    monkeypatch.setattr("course_lib.interpretation.lens.LARGEST", 8 * 50 * 4)
    logit_lens(model, torch.zeros(4, 2, 24))
    with pytest.raises(ValueError, match=r"the logits of 9 vectors would take .* GiB, .*: choose fewer positions"):
        logit_lens(model, torch.zeros(3, 3, 24))


def test_the_real_model(smollm2):
    trace = smollm2.trace("The dog ran up the")
    stream = residual_stream(smollm2.transformer, torch.tensor(trace.ids))
    torch.testing.assert_close(stream, trace.residual_stream, atol=1e-2, rtol=1e-4)  # the trace forms its weights
    logits = logit_lens(smollm2.transformer, stream[:, -1])
    torch.testing.assert_close(logits[-1], trace.logits, atol=1e-3, rtol=1e-4)
    right = smollm2.prompt_ids(" hill")[0]
    rank = (logits > logits[:, [right]]).sum(1)
    assert rank[-1] == 0 and rank[0] > 1000
    early, middle, late = rank[1:11], rank[11:21], rank[21:]
    assert early.float().mean() > middle.float().mean() > 5 * late.float().mean()
