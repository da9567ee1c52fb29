"""Send one prompt through a model stage by stage, and keep what every stage made."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.arguments import Whole, shown, whole
from course_lib.config import config_of
from course_lib.input_processing.tokenizer import Tokenizer
from course_lib.interpretation.lens import block_by_block, logit_lens
from course_lib.prediction.logits import softmax
from course_lib.prediction.sampling import greedy
from course_lib.transformer_block.transformer import Transformer

LIMIT = 256  # tokens; the attention weights of all layers and heads then take 71 MB for SmolLM2
KEPT = 50  # of the likeliest next tokens, their texts

Made = TypeVar("Made")


@dataclass(frozen=True)
class Stage:
    """One stage of the journey: its phase (1, 2 or 3), how long it took, and the size of what it made."""

    name: str
    phase: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Trace:
    """Everything that a prompt turned into on its way through the model, on the CPU."""

    prompt: str
    raw_bytes: bytes
    ids: list[int]
    tokens: list[str]  # each id as text
    token_bytes: list[bytes]  # each id's own bytes; together they are raw_bytes, but for a start token
    embeddings: Float[Tensor, "position d_model"]
    residual_stream: Float[Tensor, "depth position d_model"]  # 0 is what enters block 1, i what leaves block i
    attention: Float[Tensor, "layer heads query key"]
    logits: Float[Tensor, " vocab"]  # for the token after the prompt
    probabilities: Float[Tensor, " vocab"]
    chosen_id: int  # the greedy choice
    chosen_token: str
    guesses: list[tuple[str, float]]  # the likeliest token, were the model to stop after 0, 1, …, N blocks
    stages: list[Stage]
    likeliest: list[tuple[str, float]] = field(repr=False)

    def top(self, k: Whole = 10) -> list[tuple[str, float]]:
        """The k likeliest next tokens (k up to 50) and their probabilities."""
        if not 1 <= (k := whole("k", k)) <= KEPT:
            raise ValueError(f"k must be from 1 to {KEPT}, got {k}")
        return self.likeliest[:k]


@torch.no_grad()
def trace(model: Transformer, tokenizer: Tokenizer, prompt: str) -> Trace:
    """Run the stages one at a time, each timed.

    Raises:
        ValueError: the prompt has no token, or more than LIMIT.
    """
    config = config_of(model, "model")
    device = model.device
    stages: list[Stage] = []

    def run(name: str, phase: int, make: Callable[[], Made]) -> Made:
        started = time.perf_counter()
        made = make()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        stages.append(Stage(name, phase, time.perf_counter() - started, size_in_bytes(made)))
        return made

    raw_bytes = run("text → bytes", 1, lambda: prompt.encode("utf-8"))
    ids = run("bytes → token ids", 1, lambda: torch.tensor([prompt_ids(tokenizer, prompt)], device=device))
    if ids.shape[1] > LIMIT:
        raise ValueError(
            f"the prompt has {ids.shape[1]} tokens; a trace keeps every attention weight "
            f"({config.n_layers} × {config.n_heads} × tokens²) and takes at most {LIMIT} tokens"
        )
    embeddings = run("ids → embeddings", 1, lambda: model.embed(ids))
    run("positions", 1, lambda: model.angles(0, ids.shape[1]))

    def blocks() -> tuple[Tensor, Tensor]:
        forward_pass = model.begin(ids.shape[1], tables=[])
        stream = list(block_by_block(model, embeddings, forward_pass))
        return torch.cat((embeddings, *stream)), torch.cat(forward_pass.tables)

    residual_stream, attention = run(f"{config.n_layers} blocks", 2, blocks)
    logits = run("logits", 3, lambda: model.unembed(model.final_norm(residual_stream[-1, -1])))
    probabilities = run("softmax", 3, lambda: softmax(logits))
    chosen = run("choice", 3, lambda: int(greedy(logits)))

    if_stopped_here = softmax(logit_lens(model, residual_stream[:, -1]))
    return Trace(
        prompt=prompt,
        raw_bytes=raw_bytes,
        ids=ids[0].tolist(),
        tokens=[tokenizer.token_text(id) for id in ids[0].tolist()],
        token_bytes=[tokenizer.token_bytes(id) for id in ids[0].tolist()],
        embeddings=embeddings[0].cpu(),
        residual_stream=residual_stream.cpu(),
        attention=attention.cpu(),
        logits=logits.cpu(),
        probabilities=probabilities.cpu(),
        chosen_id=chosen,
        chosen_token=tokenizer.token_text(chosen),
        guesses=[likeliest(tokenizer, row, 1)[0] for row in if_stopped_here],
        stages=stages,
        likeliest=likeliest(tokenizer, probabilities, KEPT),
    )


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The prompt's token ids, with those that the model expects around every text, such as a start token.

    Raises:
        TypeError: the prompt is no text.
        ValueError: there are none.
    """
    if not isinstance(prompt, str):
        raise TypeError(f"prompt must be a text, got {shown(prompt)}")
    ids = [*tokenizer.before, *tokenizer.encode(prompt), *tokenizer.behind]
    if not ids:
        raise ValueError("the prompt is empty: the model needs at least one token to continue from")
    return ids


def likeliest(tokenizer: Tokenizer, probabilities: Float[Tensor, " vocab"], k: Whole) -> list[tuple[str, float]]:
    """The k tokens with the largest probabilities, as text, the largest first."""
    values, ids = probabilities.topk(min(whole("k", k, 1), len(probabilities)))
    return [(tokenizer.token_text(id), value) for id, value in zip(ids.tolist(), values.tolist(), strict=True)]


def size_in_bytes(made: object) -> int:
    """How much memory the numbers of a stage's result take; an int counts as one 8-byte number."""
    if isinstance(made, Tensor):
        return made.nbytes
    if isinstance(made, bytes):
        return len(made)
    if isinstance(made, tuple):
        return sum(map(size_in_bytes, made))
    return 8 if isinstance(made, int) else 0
