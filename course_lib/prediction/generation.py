"""The loop: predict one token, append it, predict again.

Prefill runs the whole prompt at once and fills the KV cache; each decode step then runs one new token against it.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_lib import arguments
from course_lib.arguments import SEEDS, Whole, refused, several, truth, whole
from course_lib.config import config_of
from course_lib.input_processing.batching import pad
from course_lib.prediction import sampling
from course_lib.prediction.kv_cache import KVCache
from course_lib.transformer_block.transformer import Transformer

Chooser = Callable[[Float[Tensor, " vocab"], Sequence[int]], int]


@dataclass(frozen=True)
class Sampler:
    """What `chooser` makes: the next id from the logits and the ids so far, in two halves.

    `adjust` works where the logits are. `pick` works on the CPU, and gives NONE if it cannot. What is between them is
    the one place where a step waits for a GPU, and the rows of a batch wait there together: `choose_each`.
    """

    adjust: sampling.Step
    pick: Callable[[Float[Tensor, " vocab"]], Int[Tensor, ""]]

    def __call__(self, logits: Float[Tensor, " vocab"], ids: Sequence[int]) -> int:
        return choose_each([self], logits[None], [ids])[0]


def choose_each(
    choosers: Sequence[Chooser], logits: Float[Tensor, "row vocab"], texts: Sequence[Sequence[int]]
) -> list[int]:
    """Each row's next id.

    Raises:
        ValueError: a row's logits are not numbers.
    """
    if not all(isinstance(choose, Sampler) for choose in choosers):  # some are functions of your own
        return [choose(row, ids) for choose, row, ids in zip(choosers, logits, texts, strict=True)]
    rows = zip(choosers, logits, texts, strict=True)
    adjusted = torch.stack([choose.adjust(row, ids) for choose, row, ids in rows]).cpu()  # the wait for a GPU
    chosen = torch.stack([choose.pick(row) for choose, row in zip(choosers, adjusted, strict=True)]).tolist()
    if sampling.NONE in chosen:
        row = chosen.index(sampling.NONE)
        check_numbers(logits[row])
        raise sampling.nothing_to_draw(adjusted[row])
    return chosen


def check_numbers(logits: Float[Tensor, " vocab"]) -> None:
    """Raises:
    ValueError: the largest logit is not a finite number.
    """
    if not logits.max().isfinite():
        raise ValueError(f"the largest logit is {float(logits.max())}: the model's numbers broke down")


def chooser(*, seed: Whole | None = None, **settings) -> Sampler:
    """A function that chooses the next id from the logits and the ids so far.

    `settings` are those of `Sampling`. A seed makes the draws repeatable.

    Raises:
        ValueError: at once, if a setting is out of its range; later, if the logits are not numbers.
    """
    chosen, generator = sampling.Sampling(**settings), new_generator(seed)

    def pick(logits: Tensor) -> Tensor:
        id = sampling.first_largest(logits) if chosen.temperature == 0 else sampling.race(logits, generator)
        return sampling.or_none(id, logits)

    return Sampler(chosen.adjust, pick)


def new_generator(seed: Whole | None) -> torch.Generator:
    """A source of random numbers on the CPU, so that a seed gives the same draws on every machine."""
    generator = torch.Generator(device="cpu")
    generator.seed() if seed is None else generator.manual_seed(whole("seed", seed, *SEEDS))
    return generator


def generate_ids(
    transformer: Transformer,
    prompt: Sequence[int],
    choose: Chooser,
    max_new_tokens: Whole,
    stop_ids: Collection[int] = (),
    use_cache: bool = True,
) -> Iterator[int]:
    """Yield the continuation's ids one by one, up to and without the first stop id.

    It ends, too, when the model's context is full. Without the cache every step runs the whole text again: the same
    ids, more slowly.

    Raises:
        ValueError: the prompt is empty, leaves no room in the context, or holds ids that the model does not know.
    """
    ids, length = prompt_and_length(transformer, prompt, max_new_tokens)
    choose, stop_ids = checked_chooser(choose, transformer), checked_stop_ids(stop_ids)
    device, use_cache = transformer.device, truth("use_cache", use_cache)
    cache = KVCache(transformer.config, length, device=device, dtype=transformer.dtype) if use_cache else None
    new = ids  # prefill: all at once
    while len(ids) < length:
        with torch.no_grad():
            hidden = transformer.hidden_states(torch.tensor([new], device=device), cache)
            logits = transformer.unembed(hidden[0, -1])
        chosen = choose(logits, ids)
        if chosen in stop_ids:
            return
        ids.append(chosen)
        yield chosen
        new = [chosen] if use_cache else ids  # decode: one at a time


def prompt_and_length(transformer: Transformer, prompt: Sequence[int], max_new_tokens: Whole) -> tuple[list[int], int]:
    """The prompt's ids, and how many the text has when nothing stops it: as far as the context reaches.

    Raises:
        ValueError: the prompt is empty, leaves no room in the context, or holds ids that the model does not know;
            max_new_tokens is no number of tokens.
    """
    config, max_new_tokens = config_of(transformer), whole("max_new_tokens", max_new_tokens, 0)
    context, prompt = config.context_length, arguments.ids("prompt", prompt, config.vocab_size)
    if not prompt:
        raise ValueError("the prompt is empty: the model needs at least one token to continue from")
    if len(prompt) >= context:
        raise ValueError(
            f"the prompt has {len(prompt)} tokens, and the model's context holds {context}, "
            "the answer included: shorten the prompt"
        )
    return prompt, min(len(prompt) + max_new_tokens, context)


def checked_chooser(choose: Chooser, transformer: Transformer) -> Chooser:
    """The chooser; what a function of your own gives is held against the vocabulary.

    Raises:
        ValueError: it is no function.
    """
    if not callable(choose):
        raise refused("choose", "a function of the logits and the ids, such as chooser() makes", choose)
    last = transformer.config.vocab_size - 1
    own = not isinstance(choose, Sampler)
    return (lambda logits, ids: whole("what choose gives", choose(logits, ids), 0, last)) if own else choose


def checked_stop_ids(stop_ids: Collection[int]) -> set[int]:
    """Raises:
    ValueError: one is no id, so that nothing would ever stop there.
    """
    return set(arguments.ids("stop_ids", stop_ids, unordered=True))


def generate_batch(
    transformer: Transformer,
    prompts: Sequence[Sequence[int]],
    choosers: Sequence[Chooser],
    max_new_tokens: Whole,
    stop_ids: Collection[int] = (),
    ended: Callable[[int, int], bool] = lambda row, id: False,
) -> list[list[int]]:
    """The continuations of several prompts, generated side by side: the ids that `generate_ids` gives for each alone.

    (But for rounding: where two tokens are equally likely up to the last digits, the choice may fall on the other.)

    The prompts may be of unequal length: the short ones are padded on the left, so that all rows end, and go on,
    at the same place; nobody looks at the padding, and each row counts its positions from its own first token. Each
    row has its chooser. A row that ends early leaves the batch. `ended(row, id)` is told of each new id, and says
    whether its row ends with it.

    Raises:
        ValueError: there are no prompts, or not as many choosers; a prompt is empty or leaves no room in the context.
    """
    prompts, choosers = several("prompts", prompts), several("choosers", choosers)
    if len(prompts) == 0:
        raise ValueError("prompts is empty: give at least one prompt to continue")
    if len(prompts) != len(choosers):
        raise ValueError(f"a chooser for each prompt is needed, got {len(choosers)} for {len(prompts)} prompts")
    checked = [prompt_and_length(transformer, prompt, max_new_tokens) for prompt in prompts]
    prompts, lengths = [prompt for prompt, _ in checked], [length for _, length in checked]
    choosers, stop_ids = (
        [checked_chooser(one, transformer) for one in choosers],
        checked_stop_ids(stop_ids),
    )
    device, texts = transformer.device, list(map(list, prompts))
    new = pad(prompts, pad_id=0, side="left")[0].to(device)
    padding = [new.shape[1] - len(prompt) for prompt in prompts]  # of each row
    room = max(new.shape[1] + length - len(prompt) for length, prompt in zip(lengths, prompts, strict=True))
    cache = KVCache(transformer.config, room, len(prompts), device, transformer.dtype, padding)
    rows = list(range(len(prompts))) if lengths[0] > len(prompts[0]) else []  # those that are still going on
    while rows:
        with torch.no_grad():
            hidden = transformer.hidden_states(new, cache)
            logits = transformer.unembed(hidden[:, -1])  # (row, vocab)
        ids = choose_each([choosers[row] for row in rows], logits, [texts[row] for row in rows])
        going = []
        for place, (row, chosen) in enumerate(zip(rows, ids, strict=True)):
            if chosen not in stop_ids:
                texts[row].append(chosen)
                if not ended(row, chosen) and len(texts[row]) < lengths[row]:
                    going.append(place)
        if len(going) < len(rows):
            rows = [rows[place] for place in going]
            cache.keep(going)
        new = torch.tensor([[texts[row][-1]] for row in rows], device=device)
    return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]


class StopStrings:
    """Text passes, up to the stop string that is complete first; it may begin in one piece and end in another.

    Text that could be the beginning of a stop string is held back until it is known not to be.
    """

    def __init__(self, stops: Sequence[str]):
        self.stops, self.held, self.found = stops, "", False

    def push(self, piece: str) -> str:
        """The text that can be shown, now that this piece has come. After a stop string there is none."""
        text = "" if self.found else self.held + piece
        found = [(start + len(stop), start) for stop in self.stops if (start := text.find(stop)) >= 0]
        if found:
            _, shown = min(found)
            self.found, self.held = True, ""
            return text[:shown]
        keep = max((n for stop in self.stops for n in range(len(stop)) if text.endswith(stop[:n])), default=0)
        shown = len(text) - keep
        self.held = text[shown:]
        return text[:shown]

    def finish(self) -> str:
        """What was held back, when nothing more comes."""
        held, self.held = self.held, ""
        return held


def stop_at(pieces: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """Pass text on through `StopStrings`; after a stop string no more is asked for."""
    gate = StopStrings(stops)
    for piece in pieces:
        yield gate.push(piece)
        if gate.found:
            return
    yield gate.finish()
