"""Speculative decoding: a cheap draft guesses some tokens ahead, and the target model checks them all in one run.

A run over several positions gives the target's own prediction at each of them, so it can judge every guess at once.
Each is kept with a chance such that what comes out has exactly the target's distribution, whatever the draft is. A
good draft saves runs; a bad one costs time, and changes no probability.

Source: Leviathan et al. 2023 (algorithm 1), Chen et al. 2023 (algorithm 2). Guesses from the text itself: Saxena 2023,
"prompt lookup decoding".
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from course_lib import arguments
from course_lib.arguments import Whole, refused, whole
from course_lib.config import config_of
from course_lib.prediction import sampling
from course_lib.prediction.generation import check_numbers, checked_stop_ids, new_generator, prompt_and_length
from course_lib.prediction.kv_cache import KVCache
from course_lib.prediction.logits import softmax
from course_lib.prediction.sampling import Sampling
from course_lib.transformer_block.transformer import Transformer

Probabilities = Float[Tensor, " vocab"]
Draw = Callable[[Float[Tensor, " vocab"], Sequence[int]], Probabilities]
# the ids so far and how many to guess → that many ids, or fewer
Guess = Callable[[Sequence[int], int], Sequence[int]]


@dataclass(frozen=True)
class Round:
    """One run of the target: what the draft had proposed, how many of it were kept, and the ids that the text gained.

    These are the accepted ones and one of the target's own: in place of the first guess that was refused, or after
    the last one. A stop id ends the text, and is not among them.
    """

    proposed: tuple[int, ...]
    accepted: int
    ids: tuple[int, ...]


def acceptance_rate(rounds: Iterable[Round]) -> float:
    """The share of the proposed tokens that were accepted; NaN where none was proposed."""
    rounds = list(rounds)
    proposed = sum(len(one.proposed) for one in rounds)
    return sum(one.accepted for one in rounds) / proposed if proposed else float("nan")


def accept_or_reject(
    target: Probabilities, draft: Probabilities, token: int, generator: torch.Generator
) -> tuple[int, bool]:
    """One guess, drawn from `draft`, is judged: the token that stands in the text, and whether it is the guess.

    It is kept with the chance target/draft (always, where the target likes it better than the draft). Else another
    is drawn from what the target has in excess of the draft, max(0, target − draft), scaled to sum to 1. Either way
    token x comes up with the chance min(target, draft) + max(0, target − draft) = target.
    """
    if torch.rand((), generator=generator, dtype=torch.float64) * draft[token] < target[token]:
        return token, True
    return sampling.draw((target - draft).clamp(min=0).log(), generator), False


def speculate(
    target: Transformer,
    draft: Transformer | Guess,
    prompt: Sequence[int],
    max_new_tokens: Whole,
    n_guesses: Whole = 4,
    stop_ids: Collection[int] = (),
    seed: Whole | None = None,
    **settings,
) -> Iterator[Round]:
    """Continue the prompt, round by round: the ids of all rounds together are the continuation.

    The draft is a smaller model with the target's vocabulary, or a function that guesses, such as `prompt_lookup`.
    `settings` are those of `Sampling`. With temperature=0 the ids are those that greedy `generate_ids` gives (but for
    rounding: where two tokens tie up to the last digits). Otherwise their distribution is that of `generate_ids`; the
    same seed draws other ids.

    Raises:
        ValueError: the prompt is empty or leaves no room in the context, n_guesses is below 1, a setting is out of
            its range, or the draft has another vocabulary.
    """
    if (n_guesses := whole("n_guesses", n_guesses)) < 1:
        raise ValueError(
            f"n_guesses must be at least 1, the tokens that the draft proposes in a round, got {n_guesses}"
        )
    n_vocab = config_of(target, "target").vocab_size
    ids, length = prompt_and_length(target, prompt, max_new_tokens)
    probabilities, generator = _probabilities(Sampling(**settings)), new_generator(seed)
    stop_ids = checked_stop_ids(stop_ids)
    if isinstance(draft, Transformer):
        if draft.config.vocab_size != n_vocab:
            raise ValueError(f"draft must have the target's vocabulary of {n_vocab}, got {draft.config.vocab_size}")
        propose = _DraftModel(draft, length, probabilities, generator)
    elif not callable(draft):
        raise refused("draft", "a Transformer, or a function that guesses", draft)
    else:
        propose = _certain(draft, n_vocab)
    reader = _Reader(target, length)
    while len(ids) < length:
        # the round's last id is the target's own, and need not be run
        guesses, from_draft = propose(ids, min(n_guesses, length - len(ids) - 1))
        logits = reader.read(
            [*ids, *guesses], 1 + len(guesses)
        )  # (guesses + 1, vocab): after the text, after each guess
        new, accepted = [], 0
        for guess, row, q in zip(guesses, logits, from_draft, strict=False):
            chosen, kept = accept_or_reject(probabilities(row, [*ids, *new]), q, guess, generator)
            new.append(chosen)
            if not kept:
                break
            accepted += 1
        else:
            new.append(sampling.draw(probabilities(logits[-1], [*ids, *new]).log(), generator))
        ended = [place for place, id in enumerate(new) if id in stop_ids]
        new = new[: ended[0]] if ended else new
        ids += new
        yield Round(tuple(guesses), accepted, tuple(new))
        if ended:
            return


class _Reader:
    """A model and its KV cache, which knows what it holds: a text is run only where it differs from the last one."""

    def __init__(self, transformer: Transformer, length: int):
        self.transformer, self.device, self.read_ids = transformer, transformer.device, []
        self.cache = KVCache(transformer.config, length, device=self.device, dtype=transformer.dtype)

    def read(self, ids: Sequence[int], n: int) -> Float[Tensor, "n vocab"]:
        """The logits after each of the last n ids, on the CPU."""
        same = 0
        for old, new in zip(self.read_ids, ids[: len(ids) - n], strict=False):
            if old != new:
                break
            same += 1
        self.cache.rewind(same)
        with torch.no_grad():
            hidden = self.transformer.hidden_states(torch.tensor([ids[same:]], device=self.device), self.cache)
            logits = self.transformer.unembed(hidden[0, -n:]).cpu()  # the wait for a GPU: one a run
        self.read_ids = list(ids)
        return logits


class _DraftModel:
    """Guesses drawn from a smaller model one by one, each with the probabilities that it was drawn from."""

    def __init__(self, transformer: Transformer, length: int, probabilities: Draw, generator: torch.Generator):
        self.reader = _Reader(transformer, min(length, transformer.config.context_length))
        self.context, self.probabilities, self.generator = transformer.config.context_length, probabilities, generator

    def __call__(self, ids: Sequence[int], n: int) -> tuple[list[int], list[Probabilities]]:
        guesses, drawn_from = [], []
        for _ in range(min(n, self.context - len(ids) + 1)):  # past its context the draft knows nothing
            text = [*ids, *guesses]
            drawn_from.append(self.probabilities(self.reader.read(text, 1)[0], text))
            guesses.append(sampling.draw(drawn_from[-1].log(), self.generator))
        return guesses, drawn_from


def _certain(guess: Guess, n_vocab: int) -> Callable[[Sequence[int], int], tuple[list[int], list[Probabilities]]]:
    """A function that guesses leaves nothing to chance: its draft distribution has all of it on the guess."""

    def propose(ids: Sequence[int], n: int) -> tuple[list[int], list[Probabilities]]:
        guesses = arguments.ids("what draft gives", guess(ids, n), n_vocab)[:n] if n else []
        return guesses, list(F.one_hot(torch.tensor(guesses, dtype=torch.long), n_vocab).double())

    return propose


def _probabilities(settings: Sampling) -> Draw:
    """What a token is drawn from, as probabilities on the CPU. The greedy choice has them all on one token."""

    def probabilities(logits: Tensor, ids: Sequence[int]) -> Probabilities:
        check_numbers(logits)
        logits = settings.adjust(logits, ids)
        if settings.temperature == 0:
            return F.one_hot(sampling.greedy(logits), len(logits)).double()
        return softmax(logits.double())

    return probabilities


def prompt_lookup(ids: Sequence[int], n: int, longest: int = 3) -> list[int]:
    """A guess from the text itself: what followed when its last few tokens stood there before.

    The latest place where the last `longest` tokens stand once more, else one with fewer of them; up to n tokens from
    there. Nothing, where the last token is new. Good for texts that repeat or quote, and free.
    """
    ids, n, longest = arguments.ids("ids", ids), whole("n", n, 0), whole("longest", longest, 1)
    for size in range(min(longest, len(ids) - 1), 0, -1):
        for start in range(len(ids) - size - 1, -1, -1):
            if ids[start : start + size] == ids[-size:]:
                return ids[start + size : start + size + n]
    return []
