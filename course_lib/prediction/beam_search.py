"""Beam search: carry several continuations side by side, and look for the one that is likeliest as a whole.

Not a rule for one token, as those in `sampling` are, but a search. Sources: Graves 2012 and Sutskever et al. 2014
(the search), Wu et al. 2016, section 7 (why lengths need a correction).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from course_lib.arguments import Number, Whole, finite, whole
from course_lib.prediction.generation import checked_stop_ids, prompt_and_length
from course_lib.prediction.kv_cache import KVCache
from course_lib.prediction.logits import log_softmax
from course_lib.transformer_block.transformer import Transformer


@dataclass(frozen=True)
class Hypothesis:
    """One continuation: its ids (with the end id, if it came to one) and the log-probability of all of them."""

    ids: tuple[int, ...]
    log_probability: float  # natural logarithm; the sum over the ids
    score: float  # what hypotheses are ranked by: log_probability / length ** length_penalty
    ended: bool = False


@torch.no_grad()
def beam_search(
    transformer: Transformer,
    prompt: Sequence[int],
    width: Whole,
    max_new_tokens: Whole,
    end_ids: Collection[int] = (),
    length_penalty: Number = 0.0,
) -> list[Hypothesis]:
    """The best continuations that a beam of `width` finds, at most `width` of them, the best first.

    Each step extends every open hypothesis by every token, and keeps the `width` best of these and of those that have
    ended. It stops when all have ended, at `max_new_tokens`, or when the context is full. Of equal scores the earlier
    parent comes first, then the lower id.

    A length penalty of 0 ranks by log-probability, which falls with every token, so that short texts win; 1 ranks by
    the mean per token.

    What it promises: each score is that of its ids; width 1 is the greedy choice; a beam that never has to drop
    anything finds the best continuation there is. What it does not: a wider beam may find a *worse* one, since what
    it keeps more of can push the right beginning out.

    Raises:
        ValueError: a setting is out of its range, the prompt is empty or leaves no room in the context, or the logits
            are not numbers.
    """
    width = whole("width", width, 1)
    expected = "0 or more and finite (0 is no correction), at most 100"
    length_penalty = finite("length_penalty", length_penalty, 0, 100, expected=expected)
    prompt, end = prompt_and_length(transformer, prompt, max_new_tokens)
    device, end_ids = transformer.device, checked_stop_ids(end_ids)
    cache = KVCache(transformer.config, end, device=device, dtype=transformer.dtype)
    beam, new = [Hypothesis((), 0.0, 0.0)], [prompt]
    for length in range(1, end - len(prompt) + 1):
        hidden = transformer.hidden_states(torch.tensor(new, device=device), cache)
        steps = log_softmax(transformer.unembed(hidden[:, -1]).cpu().double())  # (open hypotheses, vocab)
        if steps.isnan().any():
            raise ValueError("the logits are not numbers: the model's numbers broke down")
        parents = [hypothesis for hypothesis in beam if not hypothesis.ended]
        totals = steps + steps.new_tensor([parent.log_probability for parent in parents])[:, None]

        candidates = [(hypothesis, None) for hypothesis in beam if hypothesis.ended]
        for row, id in _largest(totals, width):
            total = totals[row, id].item()
            longer = Hypothesis((*parents[row].ids, id), total, total / length**length_penalty, id in end_ids)
            candidates.append((longer, row))
        candidates = sorted(candidates, key=lambda candidate: -candidate[0].score)[:width]

        beam = [hypothesis for hypothesis, _ in candidates]
        rows = [row for hypothesis, row in candidates if not hypothesis.ended]
        if not rows:
            break
        # each open hypothesis takes over its parent's keys and values; a parent may have several children, or none
        cache.keep(rows)
        new = [[hypothesis.ids[-1]] for hypothesis in beam if not hypothesis.ended]
    return beam


def _largest(totals: torch.Tensor, width: int) -> list[tuple[int, int]]:
    """(row, id) of the `width` largest, the largest first; of equal ones, the earlier row, then the lower id."""
    flat = totals.flatten()
    least = flat.topk(min(width, len(flat))).values[-1]
    places = ((flat >= least) & (flat > -torch.inf)).nonzero().flatten()  # topk itself breaks ties as it likes
    order = flat[places].argsort(descending=True, stable=True)[:width]
    return [divmod(place, totals.shape[1]) for place in places[order].tolist()]
