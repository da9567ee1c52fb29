"""Choosing the next token: functions from logits to logits (what they rule out becomes −inf), then one choice.

Sources: top-p, Holtzman et al. 2020; min-p, Nguyen et al. 2024; repetition penalty, Keskar et al. 2019.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_lib.arguments import Number, Whole, finite, whole
from course_lib.prediction.logits import softmax

Logits = Float[Tensor, "*batch vocab"]
Step = Callable[[Logits, Sequence[int]], Logits]  # from the logits and the ids so far
NONE = -1  # the id of no token
SMALLEST, LARGEST = 1e-40, 1e38  # that a logit can be scaled by: float32 makes 0 of much less, and infinity of more
A_TEMPERATURE = f"above 0 and finite (0 stands for the greedy choice), from {SMALLEST} to {LARGEST}"
A_PENALTY = f"above 0 and finite (1 changes nothing), from {SMALLEST} to {LARGEST}"


def temperature(logits: Logits, t: Number) -> Logits:
    """Divide by t: below 1 the favourites gain, above 1 the outsiders do.

    Raises:
        ValueError: t is not above 0 (greedy choice is its own function).
    """
    return logits / _temperature(t)


def top_k(logits: Logits, k: Whole) -> Logits:
    """Keep the k largest (and whatever ties with the last of them).

    Raises:
        ValueError: k is not a whole number of at least 1.
    """
    k = whole("top_k", k, 1)
    smallest_kept = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < smallest_kept, -torch.inf)


def top_p(logits: Logits, p: float) -> Logits:
    """Keep the fewest tokens, likeliest first, whose probabilities reach p: the one that crosses p is kept.

    Of equally likely tokens the lower id comes first.

    Raises:
        ValueError: p is not in (0, 1].
    """
    p = _check_fraction("top_p", p)
    if p == 1:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    # in half precision the running sum of a whole vocabulary would lose its tail
    probabilities = softmax(ordered.to(torch.promote_types(ordered.dtype, torch.float32)))
    before = probabilities.cumsum(dim=-1) - probabilities  # what the likelier ones hold already
    removed = (before >= p).scatter(-1, order, before >= p)
    return logits.masked_fill(removed, -torch.inf)


def min_p(logits: Logits, p: float) -> Logits:
    """Keep the tokens at least p times as likely as the likeliest.

    Raises:
        ValueError: p is not in (0, 1].
    """
    p = _check_fraction("min_p", p)
    probabilities = softmax(logits)
    return logits.masked_fill(probabilities < p * probabilities.max(dim=-1, keepdim=True).values, -torch.inf)


def repetition_penalty(logits: Logits, ids: Int[Tensor, "*batch position"], penalty: float) -> Logits:
    """Make every token that is in `ids` less likely: its score is divided by the penalty, or multiplied if negative.

    A token that comes several times is penalised once. A penalty below 1 makes them likelier.

    Raises:
        ValueError: penalty is not above 0.
    """
    penalty = _penalty(penalty)
    seen = logits.gather(-1, ids)
    return logits.scatter(-1, ids, torch.where(seen > 0, seen / penalty, seen * penalty))


def _temperature(value: Number, lowest: float = SMALLEST) -> float:
    return finite("temperature", value, lowest, LARGEST, expected=A_TEMPERATURE)


def _penalty(value: Number) -> float:
    return finite("repetition_penalty", value, SMALLEST, LARGEST, expected=A_PENALTY)


def _check_fraction(name: str, value: Number) -> float:
    return finite(name, value, above=0, high=1, expected="in (0, 1]")


def greedy(logits: Logits) -> Int[Tensor, "*batch"]:
    """The id with the largest score; of several equally large ones, the lowest id.

    Raises:
        ValueError: the largest score is not a finite number.
    """
    largest = logits.max(dim=-1).values
    if not largest.isfinite().all():
        raise ValueError(
            f"there is no largest logit: it is {float(largest[~largest.isfinite()][0])}, not a finite number"
        )
    return first_largest(logits)


def first_largest(logits: Logits) -> Int[Tensor, "*batch"]:
    """`greedy` where nothing is read of the logits. If the largest is not a finite number the id means nothing."""
    largest = logits == logits.max(dim=-1, keepdim=True).values
    ids = torch.arange(logits.shape[-1], device=logits.device)
    return torch.where(largest, ids, logits.shape[-1]).min(dim=-1).values


def draw(logits: Float[Tensor, " vocab"], generator: torch.Generator) -> int:
    """Draw one id with the probabilities that the logits give, by a race.

    Each token waits for a random time, −log(u) with u uniform, divided by its probability; the first to arrive is
    drawn, and token i arrives first with exactly its probability. One throw of a dart at a line of 49,152 stretches
    would do the same, but there the last digit of any probability can move the dart to a neighbour. The race, run on
    the CPU in float64, gives a seed the same token on every machine.

    Raises:
        ValueError: nothing can be drawn, since every token is ruled out, or the logits are not numbers.
    """
    logits = logits.detach().cpu()
    id = int(or_none(race(logits, generator), logits))
    if id == NONE:
        raise nothing_to_draw(logits)
    return id


def race(logits: Float[Tensor, " vocab"], generator: torch.Generator) -> Int[Tensor, ""]:
    """`draw` for logits on the CPU, as a tensor. Where nothing can be drawn the id means nothing."""
    waits = -torch.log(torch.rand(len(logits), generator=generator, dtype=torch.float64))
    return (waits / softmax(logits.double())).argmin()


def or_none(id: Int[Tensor, ""], logits: Float[Tensor, " vocab"]) -> Int[Tensor, ""]:
    """The id, or NONE if the largest logit is not a finite number. Nothing is read: many can be read together later."""
    return torch.where(logits.max().isfinite(), id, NONE)


def nothing_to_draw(logits: Float[Tensor, " vocab"]) -> ValueError:
    """The error that says so."""
    return ValueError(f"nothing can be drawn: the largest logit is {float(logits.max())}, not a finite number")


# ---- all of it ------------------------------------------------------------------------------------


# in the order in which they are applied
METHODS = dict(repetition_penalty=repetition_penalty, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
OFF = dict(repetition_penalty=(1,), temperature=(0, 1), top_k=(None,), top_p=(None, 1), min_p=(None,))


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is chosen: every setting, and the one order in which they are applied.

    Raises:
        ValueError: at once, if a setting is out of its range.
    """

    temperature: Number = 1.0  # 0 is the greedy choice
    top_k: Whole | None = None
    top_p: Number | None = None
    min_p: Number | None = None
    repetition_penalty: Number = 1.0

    def __post_init__(self):
        # a setting out of its range is refused now, not after a long prompt
        t = _temperature(self.temperature, lowest=0.0)
        checked = dict(temperature=t and _temperature(t), repetition_penalty=_penalty(self.repetition_penalty))
        if self.top_k is not None:
            checked["top_k"] = whole("top_k", self.top_k, 1)
        for name in ("top_p", "min_p"):
            if (fraction := getattr(self, name)) is not None:
                checked[name] = _check_fraction(name, fraction)
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # frozen, but not yet made

    def on(self) -> dict[str, float]:
        """The settings that change something, in the order in which they are applied. The greedy choice is none."""
        return {name: value for name in METHODS if (value := getattr(self, name)) not in OFF[name]}

    def adjust(self, logits: Logits, ids: Sequence[int], methods: Mapping[str, Callable] = METHODS) -> Logits:
        """The logits that the token after `ids` is drawn from. The methods may be your own, under the same names."""
        for name, value in self.on().items():
            if name == "repetition_penalty":
                seen = torch.tensor(ids).to(logits.device, non_blocking=True)
                logits = methods[name](logits, seen, value)
            else:
                logits = methods[name](logits, value)
        return logits

    def steps(self) -> Iterator[tuple[str, Step]]:
        """What is on, one at a time, each with its name: "top-k 40"."""
        for name, value in self.on().items():
            words = name.replace("_", " " if name == "repetition_penalty" else "-")
            yield f"{words} {value:g}", Sampling(**{name: value}).adjust
