"""The loop: predict one token, append it, predict again.

Prefill runs the whole prompt at once and fills the KV cache; each decode step then runs one new token against it.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.config import TransformerConfig
from course_lib.prediction import sampling
from course_lib.transformer_block.transformer import Transformer


class KVCache:
    """The keys and values of every position so far, in memory taken once: 2 · layers · kv_heads · d_head numbers each.

    Appending counts once per layer; `length` grows when the last layer has appended.
    """

    def __init__(self, config: TransformerConfig, max_length: int, batch: int = 1, device=None, dtype=torch.float32):
        shape = (config.n_layers, batch, config.n_kv_heads, max_length, config.d_head)
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)
        self.length = 0  # positions kept so far

    def append(
        self,
        layer: int,
        keys: Float[Tensor, "batch kv_heads new d_head"],
        values: Float[Tensor, "batch kv_heads new d_head"],
    ) -> tuple[Float[Tensor, "batch kv_heads key d_head"], Float[Tensor, "batch kv_heads key d_head"]]:
        """Keep one layer's new keys and values; return all of that layer's so far.

        Raises:
            ValueError: there is no room left.
        """
        n_layers, _, _, room, _ = self.keys.shape
        end = self.length + keys.shape[2]
        if end > room:
            raise ValueError(f"the KV cache holds {room} positions, and position {end} was asked for")
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        if layer == n_layers - 1:
            self.length = end
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


Chooser = Callable[[Float[Tensor, " vocab"], Sequence[int]], int]


def chooser(
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
) -> Chooser:
    """A function that chooses the next id from the logits and the ids so far. temperature=0 is the greedy choice.

    The methods of `sampling` are applied in the customary order, that of the parameters with the penalty first.

    Raises:
        ValueError: at once, if a setting is out of its range; while choosing, if the logits are not numbers.
    """
    steps = []
    if temperature != 0:
        steps.append(partial(sampling.temperature, t=temperature))
    if top_k is not None:
        steps.append(partial(sampling.top_k, k=top_k))
    if top_p is not None:
        steps.append(partial(sampling.top_p, p=top_p))
    if min_p is not None:
        steps.append(partial(sampling.min_p, p=min_p))
    generator = torch.Generator(device="cpu")  # on the CPU, so that a seed gives the same draws on every machine
    generator.seed() if seed is None else generator.manual_seed(seed)

    def adjust(logits: Tensor, ids: Sequence[int]) -> Tensor:
        if repetition_penalty != 1.0:
            seen = torch.tensor(ids, device=logits.device)
            logits = sampling.repetition_penalty(logits, seen, repetition_penalty)
        for step in steps:
            logits = step(logits)
        return logits

    def choose(logits: Tensor, ids: Sequence[int]) -> int:
        if not logits.max().isfinite():
            raise ValueError(f"the largest logit is {float(logits.max())}: the model's numbers broke down")
        logits = adjust(logits, ids)
        return int(sampling.greedy(logits)) if temperature == 0 else sampling.draw(logits, generator)

    adjust(torch.zeros(2), [0])  # a setting out of its range is refused now, not after a long prompt
    return choose


def generate_ids(
    transformer: Transformer,
    prompt: Sequence[int],
    choose: Chooser,
    max_new_tokens: int,
    stop_ids: Collection[int] = (),
    use_cache: bool = True,
) -> Iterator[int]:
    """Yield the continuation's ids one by one, up to and without the first stop id.

    It ends, too, when the model's context is full. Without the cache every step runs the whole text again: the same
    ids, more slowly.

    Raises:
        ValueError: the prompt is empty or leaves no room in the context.
    """
    context, weight = transformer.config.context_length, transformer.token_embedding.weight
    if not prompt:
        raise ValueError("the prompt is empty: the model needs at least one token to continue from")
    if len(prompt) >= context:
        raise ValueError(
            f"the prompt has {len(prompt)} tokens, and the model's context holds {context}, "
            "the answer included: shorten the prompt"
        )
    ids = list(prompt)
    length = min(len(ids) + max_new_tokens, context)
    cache = KVCache(transformer.config, length, device=weight.device, dtype=weight.dtype) if use_cache else None
    new = ids  # prefill: all at once
    while len(ids) < length:
        with torch.no_grad():
            hidden = transformer.hidden_states(torch.tensor([new], device=weight.device), cache)
            logits = transformer.unembed(hidden[0, -1])
        chosen = choose(logits, ids)
        if chosen in stop_ids:
            return
        ids.append(chosen)
        yield chosen
        new = [chosen] if use_cache else ids  # decode: one at a time


def stop_at(pieces: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """Pass text on up to the stop string that is complete first; it may begin in one piece and end in another.

    Text that could be the beginning of a stop string is held back until it is known not to be.
    """
    held = ""
    for piece in pieces:
        held += piece
        found = [(start + len(stop), start) for stop in stops if (start := held.find(stop)) >= 0]
        if found:
            _, start = min(found)
            yield held[:start]
            return
        keep = max((n for stop in stops for n in range(len(stop)) if held.endswith(stop[:n])), default=0)
        yield held[: len(held) - keep]
        held = held[len(held) - keep :]
    yield held
