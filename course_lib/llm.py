"""A language model, whole: tokenizer + transformer + the loop that generates.

llm = load("smollm2-135m")
llm.generate("The dog ran up the", max_new_tokens=8, seed=1)
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib import assets, device
from course_lib.arguments import instance, several, whole
from course_lib.input_processing.tokenizer import Tokenizer
from course_lib.interpretation.trace import Trace, likeliest, prompt_ids, trace
from course_lib.prediction.chat_template import Message, Template, chat_ids, render_chat
from course_lib.prediction.generation import StopStrings, chooser, generate_batch, generate_ids, stop_at
from course_lib.prediction.logits import softmax
from course_lib.pretrained.chats import chats_from_folder, chats_from_gguf
from course_lib.pretrained.checkpoints import transformer_from_folder, transformer_from_gguf
from course_lib.pretrained.gguf import read_gguf
from course_lib.pretrained.vocabularies import tokenizer_from_gguf_metadata
from course_lib.transformer_block.transformer import Transformer

MODELS = ("smollm2-135m",)
# A model may end its turn with any of these, whichever one its file names as *the* end.
END_TOKENS = ("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "</s>")


def load(name: str | Path, on: torch.device | str | None = None) -> "LLM":
    """A model by its name ("smollm2-135m"), from a .gguf file, or from a folder in Hugging Face's layout.

    The named model is fetched first if it is not on disk yet. `on` is the device, by default the best there is.

    Raises:
        ValueError: the name or the device is unknown, or the files are not what this library reads.
        FileNotFoundError: a file that the folder needs is missing.
        AssetError: the model could not be fetched.
    """
    on = device.named(on)
    try:
        path = Path(name).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (TypeError, ValueError, OSError, RuntimeError):  # no path, a null in it, too long, nobody's home
        path, is_folder, is_file = Path(), False, False
    if name in MODELS:
        llm = _from_gguf(assets.path(str(name)))
    elif is_folder:
        llm = _from_folder(path)
    elif is_file or path.suffix == ".gguf":
        llm = _from_gguf(path)
    else:
        raise ValueError(
            f"there is no model {str(name)!r:.300}: "
            f"give one of {', '.join(MODELS)}, a .gguf file, or a folder with config.json"
        )
    llm.transformer.to(on)
    return llm


def _from_gguf(path: Path) -> "LLM":
    file = read_gguf(path)
    tokenizer, chats = tokenizer_from_gguf_metadata(file.metadata), chats_from_gguf(file.metadata)
    return LLM(tokenizer, transformer_from_gguf(file), chats.end_ids, chats.template, chats.special_tokens)


def _from_folder(folder: Path) -> "LLM":
    tokenizer, chats = Tokenizer.from_folder(folder), chats_from_folder(folder)
    return LLM(tokenizer, transformer_from_folder(folder), chats.end_ids, chats.template, chats.special_tokens)


class LLM:
    """A tokenizer and a transformer that belong together, the ids that end a text, and perhaps a chat template.

    `chat_template` may be several, by name; `named_tokens` are names that it may use, such as bos_token → their texts.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        transformer: Transformer,
        end_ids: set[int],
        chat_template: Template | None = None,
        named_tokens: dict[str, str] | None = None,
    ):
        rows, special = transformer.config.vocab_size, tokenizer.special_tokens
        self.tokenizer, self.transformer = tokenizer.with_rows(rows), transformer
        self.chat_template, self.named_tokens = chat_template, named_tokens or {}
        self.end_ids = end_ids | {special[token] for token in END_TOKENS if token in special}
        if never := {id for id in end_ids if id >= rows}:
            said = f"the id {min(never)} is to end a text, and the model has {rows:,} tokens: none will end by it"
            warnings.warn(said, stacklevel=2)

    def __repr__(self) -> str:
        config = self.transformer.config
        return (
            f"LLM({self.transformer.n_parameters():,} parameters, {config.n_layers} blocks, width {config.d_model}, "
            f"{self.tokenizer.vocab_size:,} tokens, context {config.context_length:,})"
        )

    @torch.no_grad()
    def logits(self, prompt: str) -> Float[Tensor, " vocab"]:
        """The score of every token of the vocabulary as the one after the prompt, on the CPU."""
        device = self.transformer.device
        hidden = self.transformer.hidden_states(torch.tensor([self.prompt_ids(prompt)], device=device))
        return self.transformer.unembed(hidden[0, -1]).cpu()

    def next_token_probabilities(self, prompt: str, k: int = 5) -> list[tuple[str, float]]:
        """The k likeliest next tokens and their probabilities, the likeliest first."""
        return self.likeliest(softmax(self.logits(prompt)), k)

    def generate(
        self,
        prompt: str,
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
    ) -> str:
        """Continue the prompt; the continuation alone is returned.

        It ends after max_new_tokens, at the model's own end token, before a `stop` string, or when the context is
        full. temperature=0 is greedy: always the likeliest token. A seed makes the draws repeatable.

        Raises:
            ValueError: the prompt is empty or too long for the context, or a setting is out of its range.
        """
        settings = dict(top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty)
        return "".join(self.stream(prompt, max_new_tokens, temperature, stop=stop, seed=seed, **settings))

    def stream(
        self,
        prompt: str,
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        *,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        **settings,
    ) -> Iterator[str]:
        """`generate`, piece by piece as the text comes: whole characters only. Bad settings are refused at once."""
        return self._stream(self.prompt_ids(prompt), max_new_tokens, temperature, stop=stop, seed=seed, **settings)

    def _stream(
        self,
        prompt: list[int],
        max_new_tokens: int,
        temperature: float,
        *,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        **settings,
    ) -> Iterator[str]:
        stops, choose = _limits(max_new_tokens, stop), chooser(temperature=temperature, seed=seed, **settings)
        ids = generate_ids(self.transformer, prompt, choose, max_new_tokens, self.end_ids)
        return (piece for piece in stop_at(self._decode(ids), stops) if piece)

    def generate_batch(
        self,
        prompts: Sequence[str],
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        *,
        stop: str | Sequence[str] | None = None,
        seed: int | Sequence[int] | None = None,
        **settings,
    ) -> list[str]:
        """Continue several prompts side by side: what `generate` gives for each of them, in much less time.

        It takes what `generate` takes; `seed` may be one for each prompt, and a single one is every prompt's own.

        Raises:
            ValueError: as in `generate`; there are no prompts, or not as many seeds.
        """
        if isinstance(prompts, str):
            raise ValueError("prompts must be a list of prompts, got one string: use generate(prompt)")
        prompts = several("prompts", prompts, "a list of prompts")
        if len(prompts) == 0:
            raise ValueError("prompts is empty: give at least one prompt to continue")
        stops = _limits(max_new_tokens, stop)
        one_each = isinstance(seed, Iterable) and not isinstance(seed, str) and getattr(seed, "ndim", 1) > 0
        seeds = list(several("seed", seed)) if one_each else [seed] * len(prompts)
        if len(seeds) != len(prompts):
            raise ValueError(
                f"seed must be one number, or one for each of the {len(prompts)} prompts, got {len(seeds)}"
            )
        texts, gates = [""] * len(prompts), [StopStrings(stops) for _ in prompts]
        decoders = [self.tokenizer.stream() for _ in prompts]

        def ended(row: int, id: int) -> bool:
            texts[row] += gates[row].push(decoders[row].push(id))
            return gates[row].found

        generate_batch(
            self.transformer,
            [self.prompt_ids(prompt) for prompt in prompts],
            [chooser(temperature=temperature, seed=seed, **settings) for seed in seeds],
            max_new_tokens,
            self.end_ids,
            ended,
        )
        return [
            text + gate.push(decoder.finish()) + gate.finish()
            for text, gate, decoder in zip(texts, gates, decoders, strict=True)
        ]

    def chat(
        self, messages: str | Sequence[Message], max_new_tokens: int = 256, temperature: float = 0.0, **settings
    ) -> str:
        """Answer a conversation, [{"role": "user", "content": "Hello"}, …], or one question given as a string.

        Greedy unless told otherwise; `settings` are what `generate` takes, and `tools` and `documents` of
        `render_chat`. A special token that somebody typed is text here, and ends no message.
        """
        return "".join(self.stream_chat(messages, max_new_tokens, temperature, **settings)).strip()

    def stream_chat(
        self,
        messages: str | Sequence[Message],
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        *,
        tools: Sequence[dict] | None = None,
        documents: Sequence[dict] | None = None,
        **settings,
    ) -> Iterator[str]:
        """`chat`, piece by piece as the text comes."""
        prompt = self.chat_ids(messages, tools=tools, documents=documents)
        return self._stream(prompt, max_new_tokens, temperature, **settings)

    def render_chat(self, messages: str | Sequence[Message], **settings) -> str:
        """The conversation as the one text that the model really reads.

        `settings` are what the template knows of: `tools`, a list of JSON schemas, `documents`, a list of texts with
        titles, add_generation_prompt=False for a conversation that has ended, and its own, such as enable_thinking.

        Raises:
            ValueError: the model has no chat template, or it does not take these messages.
        """
        return render_chat(self._template(), _conversation(messages), self.named_tokens, **settings)

    def chat_ids(self, messages: str | Sequence[Message], **settings) -> list[int]:
        """The ids of what `render_chat` gives, as `chat` reads them: only the template's own special tokens are such.

        Raises:
            ValueError: as in `render_chat`.
        """
        ids = chat_ids(self.tokenizer, self._template(), _conversation(messages), self.named_tokens, **settings)
        return self._with_rows(ids)

    def _template(self) -> Template:
        if self.chat_template is None:
            raise ValueError("this model brings no chat template: use generate(prompt)")
        return self.chat_template

    def trace(self, prompt: str) -> Trace:
        """Send the prompt through the model one stage at a time, and keep what every stage made.

        Raises:
            ValueError: the prompt is empty, or longer than 256 tokens.
        """
        self.prompt_ids(prompt)  # or a sentence
        return trace(self.transformer, self.tokenizer, prompt)

    def prompt_ids(self, prompt: str) -> list[int]:
        """The prompt's token ids, with those that the model expects around every text, such as a start token.

        Raises:
            ValueError: there are none, or the model has no vector for one.
        """
        return self._with_rows(prompt_ids(self.tokenizer, prompt))

    def _with_rows(self, ids: list[int]) -> list[int]:
        """The ids. Raises a ValueError if the embedding has no row for one."""
        rows = self.transformer.config.vocab_size
        if ids and (highest := max(ids)) >= rows:
            text = self.tokenizer.token_text(highest)
            raise ValueError(f"the model has no vector for {text!r}: its id is {highest}, and there are {rows} rows")
        return ids

    def likeliest(self, probabilities: Float[Tensor, " vocab"], k: int) -> list[tuple[str, float]]:
        """The k tokens with the largest probabilities, as text, the largest first."""
        return likeliest(self.tokenizer, probabilities, k)

    def _decode(self, ids: Iterator[int]) -> Iterator[str]:
        decoder = self.tokenizer.stream()
        for id in ids:
            yield decoder.push(id)
        yield decoder.finish()


def _conversation(messages: str | Sequence[Message]) -> Sequence[Message]:
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else messages


def _limits(max_new_tokens: int, stop: str | Sequence[str] | None) -> list[str]:
    """The stop strings as a list; what cannot be asked for is refused."""
    whole("max_new_tokens", max_new_tokens, 0)
    several_stops = (
        () if stop is None else [stop] if isinstance(stop, str) else several("stop", stop, "a text or several")
    )
    stops = [instance("each of stop", one, str) for one in several_stops]
    if "" in stops:
        raise ValueError("stop holds an empty string, which every text contains: leave it out")
    return stops
