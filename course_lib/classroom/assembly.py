"""Whose code runs the model? SmolLM2's weights, run by the functions that a learner wrote in the lessons.

`assemble(llm)` goes through PIECES. For each it takes the function in the learner's `my_llm.py`, if that loads, passes
its check and gets along with the real model's sizes; else the library's version of the exercise, which is the one that
`check` holds answers against. The assembly then reads, answers and writes as `llm` does, and shows whose is what.
"""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib import assets
from course_lib.classroom import guard, my_llm
from course_lib.classroom.answers import same
from course_lib.classroom.exercise import NotDone, Wrong
from course_lib.classroom.judging import attempt
from course_lib.classroom.location import workspace_folder
from course_lib.drawing.style import PHASES, on_ground
from course_lib.input_processing.positions import rotation_angles
from course_lib.input_processing.tokenizer import SpecialToken, split_at_special_tokens
from course_lib.input_processing.tokenizer_files import to_bytes
from course_lib.lessons import exercises
from course_lib.lessons.lesson_14.exercises import SYSTEM
from course_lib.llm import LLM
from course_lib.prediction.sampling import Sampling, draw
from course_lib.pretrained.checkpoints import neighbours_to_halves
from course_lib.pretrained.gguf import read_gguf
from course_lib.transformer_block.linear import linear


@dataclass(frozen=True)
class Piece:
    """One place in the pass from prompt to answer that the function of an exercise fills."""

    name: str  # of the exercise, and of the function in my_llm.py
    does: str  # in a few words
    each_block: bool = False  # a pass runs it in every block


# in the order in which a prompt meets them
PIECES = (
    Piece("chat_prompt", "writes a conversation as one text"),
    Piece("encode_by_rank", "merges the bytes of a word into tokens"),
    Piece("look_up", "finds the row of each token"),
    Piece("causal_mask", "closes the future"),
    Piece("rms_norm", "brings each row to size", each_block=True),
    Piece("split_heads", "cuts rows into heads", each_block=True),
    Piece("rotate_pairs", "turns queries and keys for their positions", each_block=True),
    Piece("append_to_cache", "keeps keys and values for later", each_block=True),
    Piece("repeat_kv_heads", "lends query heads their key head", each_block=True),
    Piece("scaled_dot_product_attention", "mixes the values of the past", each_block=True),
    Piece("swiglu", "sends each row through the feed-forward part", each_block=True),
    Piece("residual_block", "adds each part to the stream", each_block=True),
    Piece("block_forward", "a whole block in one function", each_block=True),
    Piece("logit_lens", "last norm and table: scores"),
    Piece("llm_forward", "the whole pass in one function"),
    Piece("repetition_penalty", "makes what was there less likely"),
    Piece("temperature", "sharpens or flattens the scores"),
    Piece("top_k", "keeps the k best"),
    Piece("top_p", "keeps the best that reach p together"),
    Piece("min_p", "keeps what is near the best"),
    Piece("stable_softmax", "turns scores into probabilities"),
    Piece("greedy_choice", "chooses the likeliest token"),
    Piece("generate_loop", "chooses, appends and goes on"),
    Piece("stop_text", "ends the text at a stop string"),
)

CHECKING = 4.0  # seconds for the checks of one function
PATIENCE = 3.0  # seconds that one function may take of a pass over the rehearsal's prompt
REHEARSAL = "What is the capital of France?"


@dataclass(frozen=True)
class Choice:
    """Which function fills a place: the learner's, or the library's and, where there was something to try, why."""

    piece: Piece
    function: Callable
    yours: bool
    why: str = ""


class Assembly:
    """A model's weights, and a function for each piece of the way from a prompt to an answer.

    Its tensors are on the CPU, as those are that the exercises' functions make.
    """

    def __init__(self, llm: LLM, choices: Sequence[Choice], trouble: str = ""):
        self.llm, self.config, self.choices, self.trouble = llm, llm.transformer.config, tuple(choices), trouble
        self.functions = {choice.piece.name: choice.function for choice in choices}
        self.weights = _weights(llm)

    def with_functions(self, **functions: Callable) -> "Assembly":
        """The same with other functions in these places, such as a broken one."""
        other = object.__new__(Assembly)
        vars(other).update(vars(self))
        other.functions = self.functions | functions
        return other

    # ---- reading: from ids to scores -----------------------------------------------------------------

    @torch.no_grad()
    def scores(self, ids: Sequence[int]) -> Float[Tensor, "position vocab"]:
        """The scores at every position, by `llm_forward`, which runs `block_forward` in every block."""
        config, f = self.config, SimpleNamespace(**self.functions)
        names = {"theta": "rope_theta", "eps": "norm_eps"}
        sizes = {
            name: getattr(config, names.get(name, name))
            for name in ("n_layers", "n_heads", "n_kv_heads", "d_head", "theta", "eps")
        }
        return f.llm_forward(torch.tensor([list(ids)]), self.weights, sizes, f.block_forward)[0]

    def read(self, ids: Sequence[int], cache: list) -> Float[Tensor, "position vocab"]:
        """The scores at the positions of `ids`, by the small pieces; `cache` holds what was read before, and grows."""
        return self.exit(self.stream(ids, cache))

    @torch.no_grad()
    def stream(self, ids: Sequence[int], cache: list) -> Float[Tensor, "1 position d_model"]:
        """What leaves the last block, by the small pieces."""
        config, f, n = self.config, SimpleNamespace(**self.functions), len(ids)
        start = cache[0][0].shape[2] if cache else 0
        cache += [None] * (config.n_layers - len(cache))
        angles = rotation_angles(torch.arange(start, start + n), config.d_head, config.rope_theta)
        mask = f.causal_mask(n, start + n)
        x = f.look_up(torch.tensor([list(ids)]), self.weights["token_embedding.weight"])
        for layer in range(config.n_layers):
            x = self.block(x, layer, angles, mask, cache)
        return x

    @torch.no_grad()
    def exit(self, stream: Float[Tensor, "1 position d_model"]) -> Float[Tensor, "position vocab"]:
        """Scores: the last norm and the table. A stream at a single depth is what `logit_lens` takes."""
        norm, table = self.weights["final_norm.weight"], self.weights["token_embedding.weight"]
        return self.functions["logit_lens"](stream, norm, table, self.config.norm_eps)[0]

    def block(self, x: Tensor, layer: int, angles: Tensor, mask: Tensor, cache: list) -> Tensor:
        """One block from the small pieces."""
        f, weights, eps = SimpleNamespace(**self.functions), self.weights, self.config.norm_eps

        def weight(name):
            return weights[f"blocks.{layer}.{name}.weight"]

        def norm(name):
            return lambda x: f.rms_norm(x, weight(name), eps)

        kept = cache[layer]

        def attention(rows):
            gathered, cache[layer] = self.attention(rows, layer, angles, mask, kept)
            return gathered

        def feed_forward(rows):
            return f.swiglu(rows, *(weight(f"feed_forward.{name}") for name in ("gate", "up", "down")))

        x = f.residual_block(x, norm("attention_norm"), attention)
        return f.residual_block(x, norm("feed_forward_norm"), feed_forward)

    def attention(
        self, rows: Tensor, layer: int, angles: Tensor, mask: Tensor, kept: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Attention from the small pieces, (1, position, d_model) in and out; and the keys and values to be kept."""
        f, config = SimpleNamespace(**self.functions), self.config
        sizes = {"query": config.n_heads, "key": config.n_kv_heads, "value": config.n_kv_heads}
        query, key, value = (
            f.split_heads(linear(rows, self.weights[f"blocks.{layer}.attention.{name}.weight"]), n)
            for name, n in sizes.items()
        )
        # rotate_pairs takes rows, one a position: all heads' rows, one head below the other
        heads = torch.cat((query, key), dim=1)[0]
        turned = f.rotate_pairs(heads.flatten(0, 1), angles.repeat(len(heads), 1)).view_as(heads)[None]
        query, key = turned.split([config.n_heads, config.n_kv_heads], dim=1)
        kept = f.append_to_cache(kept, key, value)

        key, value = (f.repeat_kv_heads(one, config.n_heads) for one in kept)
        mixed = f.scaled_dot_product_attention(query, key, value, mask)
        output = self.weights[f"blocks.{layer}.attention.output.weight"]
        return linear(mixed.transpose(1, 2).flatten(2), output), kept

    # ---- writing -------------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """The token ids of a text; the text of a special token is its one id."""
        ids, tokenizer = [], self.llm.tokenizer
        ranks, token_ids = _merges()
        special = [SpecialToken(text, id) for text, id in tokenizer.special_tokens.items()]
        for part in split_at_special_tokens(text, special):
            for word in [part] if isinstance(part, int) else tokenizer.split(part):
                if isinstance(word, int):
                    ids.append(word)
                    continue
                bytes_of_it = [byte for value in word.encode() if (byte := bytes([value])) in token_ids]
                ids += [token_ids[token] for token in self.functions["encode_by_rank"](bytes_of_it, ranks)]
        return ids

    def write(
        self, prompt: str, max_new_tokens: int = 16, temperature: float = 0.0, stop: str = "", seed: int = 0, **sampling
    ) -> str:
        """How the prompt goes on, up to an end token or the stop string; at temperature 0 the likeliest each time."""
        f, seen = SimpleNamespace(**self.functions), []
        chosen, generator = Sampling(temperature=temperature, **sampling), torch.Generator().manual_seed(seed)

        def run(ids, cache):
            cache = list(cache or [])
            seen.extend(ids)
            return self.exit(self.stream(ids, cache)[:, -1:])[-1], cache

        def choose(scores):
            scores = chosen.adjust(scores, seen, self.functions)
            return f.greedy_choice(scores) if temperature == 0 else draw(f.stable_softmax(scores).log(), generator)

        new = f.generate_loop(run, self.encode(prompt), choose, max_new_tokens, self.llm.end_ids)
        if not stop:
            return self.llm.tokenizer.decode(new)
        text, held, decoder = "", "", self.llm.tokenizer.stream()
        for id in new:
            shown, held, ended = f.stop_text(held, decoder.push(id), stop)
            text += shown
            if ended:
                return text
        return text + held + decoder.finish()

    def chat(self, question: str, max_new_tokens: int = 64) -> str:
        """The answer to a question, through the chat template."""
        prompt = self.functions["chat_prompt"]([{"role": "user", "content": question}], SYSTEM)
        return self.write(prompt, max_new_tokens).strip()

    # ---- whose is what -------------------------------------------------------------------------------

    @property
    def yours(self) -> list[str]:
        """The names of the pieces that the learner's functions fill."""
        return [choice.piece.name for choice in self.choices if choice.yours]

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """(piece, what it does, lesson, whose, why not yours) for each piece, as texts."""
        return [
            (
                choice.piece.name,
                choice.piece.does,
                exercises()[choice.piece.name].lesson,
                "yours" if choice.yours else "the library's",
                choice.why,
            )
            for choice in self.choices
        ]

    def summary(self) -> str:
        """How many of the pieces are the learner's, and what is wrong with the file as a whole."""
        count = f"{len(self.yours)} of {len(self.choices)} pieces are yours."
        return f"{count} {self.trouble}" if self.trouble else count

    def __repr__(self) -> str:
        lines = [
            f"{lesson}  {name:30} {whose}" + (f": {why}" if why else "") for name, _, lesson, whose, why in self.rows()
        ]
        return "\n".join([*lines, self.summary()])

    def _repr_html_(self) -> str:
        cell = "text-align: left; padding: 2px 12px 2px 6px; vertical-align: top"
        body = []
        for name, does, lesson, whose, why in self.rows():
            phase = PHASES[_phase(lesson)]
            own = whose == "yours"
            look = on_ground(phase.strong) if own else ""
            body.append(
                f'<tr><td style="{cell}; border-left: 5px solid {phase.strong}"><code>{name}</code></td>'
                f'<td style="{cell}">{escape(does)}</td><td style="{cell}">{lesson}</td>'
                f'<td style="{cell}"><span style="padding: 1px 6px; {look}">{"✓ " if own else ""}{whose}</span>'
                f"{' ' + escape(why) if why else ''}</td></tr>"
            )
        head = "".join(f'<th style="{cell}">{name}</th>' for name in ("piece", "what it does", "lesson", "whose"))
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
            f"<p><b>{escape(self.summary())}</b></p>"
        )


def _phase(lesson: str) -> int:
    return 1 if "01" <= lesson <= "04" else 2 if "05" <= lesson <= "09" else 3


# ---- choosing ----------------------------------------------------------------------------------------


def assemble(llm: LLM, file: Path | None = None) -> Assembly:
    """The assembly for a model: the learner's functions where they can be used, the library's elsewhere.

    `file` is by default `my_llm.py` in the learner's workspace. Nothing in it can stop this: what does not load, does
    not pass, crashes, loops for ever or is too slow is left out, and the table says why.
    """
    folder = workspace_folder()
    theirs, needs, trouble = _load(file or (folder / my_llm.FILE if folder else None))
    choices = []
    for piece in PIECES:
        function, oracle = theirs.get(piece.name), exercises()[piece.name].oracle
        why = _fails_its_check(piece.name, function) if function is not None else ""
        if why and piece.name in needs:
            why = f"yours needs `{needs[piece.name]}`, which no longer works: run its check again"
        choices.append(
            Choice(piece, oracle if function is None or why else function, function is not None and not why, why)
        )
    return Assembly(llm, [*_rehearsed(llm, choices)], trouble)


def _load(file: Path | None) -> tuple[dict[str, Any], dict[str, str], str]:
    """What stands in the learner's file; the functions whose imports fail; and, where it does not load, a sentence."""
    if file is None or not file.exists():
        return {}, {}, ""
    try:
        text, needs = file.read_bytes().decode("utf-8-sig"), {}
        with contextlib.suppress(my_llm.CannotKeep, SyntaxError, ValueError):  # then it has to load as it is
            text, needs = my_llm.loadable(text), my_llm.needing(text)
        scope = my_llm.load(text, str(file))
        return {name: value for name, value in scope.items() if _is_own(value, scope)}, needs, ""
    except SyntaxError as error:
        why = f"line {error.lineno} is not Python ({error.msg})" if error.lineno else f"{error.msg}"
    except ValueError as error:
        why = f"{error}"
    except OSError as error:
        why = f"it cannot be read ({error.strerror})"
    except Wrong as wrong:
        why = wrong.sentence
    except NotDone:
        why = "something in it raises NotImplementedError"
    return {}, {}, f"{file.name} does not load, so nothing of it is used: {why}."


def _is_own(value: Any, scope: dict[str, Any]) -> bool:
    """Whether it was made in the file: what a kept function imports from elsewhere is not the learner's."""
    return not callable(value) or getattr(inspect.unwrap(value), "__globals__", None) is scope


def _fails_its_check(name: str, function: Callable) -> str:
    """Why a function is not used, as a sentence; empty where it passes its check."""
    if not inspect.isroutine(function):
        return f"{my_llm.FILE} has something else under this name"
    exercise = exercises()[name]
    short = dataclasses.replace(exercise, seconds=min(CHECKING, exercise.seconds))
    try:
        with torch.enable_grad():  # some checks ask whether learning could go through
            wrongs = [wrong for _, wrong, _ in attempt(short, function, seed=14) if wrong is not None]
        if wrongs:
            return f"yours does not pass its check any more: {wrongs[0].sentence}"
    except NotDone:
        return "yours is not written yet"
    return ""


def _rehearsed(llm: LLM, choices: Sequence[Choice]) -> Sequence[Choice]:
    """The choices again, without the learner's functions that cannot do what the real model asks of them.

    The library's functions answer a question, in two blocks, and their calls are kept. Then each of the learner's gets
    the calls of its place: the same sizes, the same numbers.
    """
    if not any(choice.yours for choice in choices):
        return choices
    calls = {}

    def watched(name: str, function: Callable) -> Callable:
        def call(*arguments):
            answer = function(*arguments)
            calls.setdefault((name, str([_shape(argument) for argument in arguments])), (arguments, answer))
            return answer

        return call

    stage = Assembly(llm, choices)
    stage.config = dataclasses.replace(stage.config, n_layers=2)
    stage.functions = {piece.name: watched(piece.name, exercises()[piece.name].oracle) for piece in PIECES}
    stage.chat(REHEARSAL, max_new_tokens=2)  # first, since a loop that draws at random cannot be run again
    sampling = dict(top_k=40, top_p=0.9, min_p=0.05, repetition_penalty=1.1)
    stage.write("A B", max_new_tokens=2, temperature=0.8, stop="\n", **sampling)
    stage.scores(stage.encode(REHEARSAL))

    def tried(choice: Choice) -> Choice:
        for (name, _), (arguments, answer) in calls.items() if choice.yours else ():
            if name == choice.piece.name and (
                why := _stumbles(choice, arguments, answer, llm.transformer.config.n_layers)
            ):
                return Choice(choice.piece, exercises()[name].oracle, False, why)
        return choice

    return [tried(choice) for choice in choices]


def _stumbles(choice: Choice, arguments: tuple, expected: Any, n_layers: int) -> str:
    """Why a function cannot do this call, as a sentence; empty where it can."""
    allowed = PATIENCE / (n_layers if choice.piece.each_block else 1)
    try:
        answer = guard.call(choice.function, arguments, allowed, guard.Sink())
    except Wrong as wrong:
        if wrong.sentence in (guard.OutOfTime.sentence, guard.Waits.sentence):
            return (
                f"yours is right and too slow here: it would take over {PATIENCE:.0f} s to read a question of 37 tokens"
            )
        return f"with SmolLM2's sizes yours fails: {wrong.sentence}"
    except NotDone:
        return "with SmolLM2's sizes yours fails: it raises NotImplementedError"
    return "" if _agree(answer, expected) else "with SmolLM2's numbers yours gives another answer than the library's"


def _agree(answer: Any, expected: Any) -> bool:
    if isinstance(answer, Tensor) and isinstance(expected, Tensor) and expected.is_floating_point():
        ruled_out = expected.isinf()
        if answer.shape != expected.shape or not torch.equal(answer[ruled_out], expected[ruled_out]):
            return False
        apart, size = (answer - expected)[~ruled_out], expected[~ruled_out]
        return bool(apart.abs().max() <= 1e-4 * size.abs().max())
    return same(answer, expected)


def _shape(argument: Any) -> Any:
    return tuple(argument.shape) if isinstance(argument, Tensor) else type(argument).__name__


def known_mistake(name: str, beginning: str) -> tuple[str, Callable]:
    """A mistake that the check of an exercise knows: its sentence, which begins so, and a function that makes it.

    Raises:
        LookupError: the check knows no such mistake.
    """
    for sentence, formula in exercises()[name].mistakes.items():
        if sentence.startswith(beginning):
            return sentence, formula
    raise LookupError(f"the check of {name} knows no mistake that begins with {beginning!r}")


# ---- what the pieces work with -----------------------------------------------------------------------


def _weights(llm: LLM) -> dict[str, Tensor]:
    """The model's tensors by our names, with rotary pairs as the exercises have them: number i with i + d_head/2."""
    config, weights = llm.transformer.config, {}
    for name, tensor in llm.transformer.state_dict().items():
        heads = {"query": config.n_heads, "key": config.n_kv_heads}.get(name.split(".")[-2])
        if heads and config.rope_pairs == "neighbours":
            tensor = neighbours_to_halves(tensor, heads)
        weights[name] = tensor.float().cpu()
    return weights


@functools.cache
def _merges() -> tuple[Mapping[tuple[bytes, bytes], int], Mapping[bytes, int]]:
    """SmolLM2's merges, pair → rank, and its tokens, bytes → id."""
    metadata = read_gguf(assets.path("smollm2-135m")).metadata
    tokens = {token: id for id, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    kinds = metadata["tokenizer.ggml.token_type"]
    special = {token: id for token, id in tokens.items() if kinds[id] in (3, 4)}
    token_ids, pairs = to_bytes(tokens, metadata["tokenizer.ggml.merges"], special)
    return {pair: rank for rank, pair in enumerate(pairs)}, token_ids
