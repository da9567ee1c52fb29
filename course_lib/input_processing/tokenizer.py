"""The tokenizer: text → token ids → text, with the vocabulary of a real model.

    special tokens cut out → pattern cuts words → bytes of each word → byte-pair merges → ids

and back: the bytes of each id, joined, read as UTF-8.
"""

import codecs
import copy
import operator
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from course_lib.input_processing import tokenizer_files
from course_lib.input_processing.bpe import (
    Rank,
    WordCache,
    any_two_that_make_a_token,
    bytes_to_unicode,
    encode_word,
    listed_merges,
)
from course_lib.input_processing.bpe_training import BYTES_BY_ID, train_bpe
from course_lib.input_processing.patterns import PATTERNS, split_words

__all__ = ["PATTERNS", "SpecialToken", "StreamDecoder", "Tokenizer", "bytes_to_unicode"]

# what Unicode calls white space; str.isspace() counts four separators (U+001C to U+001F) more
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
NO_IDS = (str, bytes, bytearray, memoryview, Mapping, Set)  # they can be gone through, and hold no ids in order


@dataclass(frozen=True)
class SpecialToken:
    """A text that is one token wherever it stands. `lstrip`, `rstrip`: it takes the white space beside it along.

    `late`: it is looked for only in what the other special tokens leave. `control`: it steers the model, as the end of
    a message does; a run of spaces that is one token is text.
    """

    text: str
    id: int
    lstrip: bool = False
    rstrip: bool = False
    late: bool = False
    control: bool = True


def split_at_special_tokens(text: str, tokens: Sequence[SpecialToken]) -> Iterator[str | int]:
    """The text between special tokens as str, the special tokens as their ids, in order; no empty text.

    The leftmost token wins, and of several that start there, the longest.
    """
    by_text = {token.text: token for token in tokens}
    longest_first = sorted(by_text, key=len, reverse=True)
    end = 0
    for match in re.finditer("|".join(map(re.escape, longest_first)), text) if by_text else ():
        token = by_text[match.group()]
        before = text[end : match.start()]
        before = before.rstrip(WHITE_SPACE) if token.lstrip else before
        if before:
            yield before
        yield token.id
        end = match.end()
        if token.rstrip:
            end = len(text) - len(text[end:].lstrip(WHITE_SPACE))
    if text[end:]:
        yield text[end:]


class Tokenizer:
    """Byte-level byte-pair encoding with special tokens.

    Made by `train`, or by one of `from_pairs`, `from_merges`, `from_tiktoken_file`, `from_tokenizer_json`,
    `from_vocab_and_merges`, `from_folder`.

    Attributes:
        special_tokens: text → id of each special token.
        control_tokens: the texts of those that steer the model, and are no mere text.
        vocab_size: one more than the highest id. Some ids below it may stand for no token (cl100k has 16 such).
        before, behind: ids that the model expects around a text, such as a start token. `encode` adds neither.
        split: text → its words, before any merging (special tokens are text to it).
    """

    def __init__(
        self,
        token_ids: dict[bytes, int],
        rank: Rank,
        pattern: str,
        special_tokens: Iterable[SpecialToken] = (),
        *,
        whole_word_first: bool = False,
        keep_gaps: bool = False,
        add_prefix_space: bool = False,
        normalize_nfc: bool = False,
        before: Iterable[int] = (),
        behind: Iterable[int] = (),
    ):
        special_tokens = list(special_tokens)
        self.special_tokens = {token.text: token.id for token in special_tokens}
        self.control_tokens = {token.text for token in special_tokens if token.control}
        self.split = split_words(pattern, keep_gaps)
        self._special_rounds = [[token for token in special_tokens if token.late == late] for late in (False, True)]
        self._add_prefix_space = add_prefix_space
        self._normalize_nfc = normalize_nfc
        self._words = WordCache(lambda word: encode_word(word.encode(), token_ids, rank, whole_word_first))
        self._bytes = _bytes_by_id(token_ids, self.special_tokens)
        self.vocab_size = len(self._bytes)
        self.before, self.behind = tuple(before), tuple(behind)
        for id in (*self.before, *self.behind):
            self.token_bytes(id)  # or a sentence

    # ---- text → ids → text -----------------------------------------------------------------------

    def encode(self, text: str, special_tokens: bool = True) -> list[int]:
        """The token ids of `text`.

        With `special_tokens`, the text of a special token becomes its one id; without, it is text like any other
        (what a user typed must not pass for the end of a message). Nothing is added in front or behind.

        Raises:
            TypeError: text is not a str.
            ValueError: text holds a lone surrogate.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, got {type(text).__name__}: {str(text)[:40]!r}")
        ids: list[int] = []
        try:
            for piece in self.pieces(text) if special_tokens else [text]:
                if isinstance(piece, int):
                    ids.append(piece)
                else:
                    ids.extend(self._encode_ordinary(piece))
        except UnicodeEncodeError:
            raise ValueError(_lone_surrogate(text)) from None
        return ids

    def pieces(self, text: str) -> list[str | int]:
        """The text cut at its special tokens: what lies between them as str, they themselves as their ids."""
        pieces: list[str | int] = [text]
        for tokens in self._special_rounds:
            pieces = [
                part
                for piece in pieces
                for part in (split_at_special_tokens(piece, tokens) if isinstance(piece, str) else (piece,))
            ]
        return pieces

    def _encode_ordinary(self, text: str) -> Iterator[int]:
        if self._normalize_nfc:
            text = unicodedata.normalize("NFC", text)
        if self._add_prefix_space and text and not text.startswith(" "):
            text = " " + text
        return chain.from_iterable(map(self._words.__getitem__, self.split(text)))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`. Bytes that are no UTF-8 become U+FFFD, the replacement character �.

        Raises:
            TypeError: ids is not a list of whole numbers.
            ValueError: an id is outside the vocabulary.
        """
        in_order = isinstance(ids, Iterable) and not isinstance(ids, NO_IDS) and getattr(ids, "ndim", 1) > 0
        if not in_order:
            raise TypeError(f"ids must be a list of token ids, got {type(ids).__name__}: {ids!r}")
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def with_rows(self, rows: int) -> "Tokenizer":
        """The tokenizer of a model whose embedding has `rows` rows: an id that is no token stands for no text.

        Embeddings are often a little longer than the vocabulary, so that their size is a round number.
        """
        wider = copy.copy(self)
        wider._bytes = [data or b"" for data in self._bytes] + [b""] * (rows - self.vocab_size)
        wider.vocab_size = len(wider._bytes)
        return wider

    def stream(self) -> "StreamDecoder":
        """A decoder to which ids are given one by one, as a model makes them."""
        return StreamDecoder(self)

    # ---- one token -------------------------------------------------------------------------------

    def token_bytes(self, id: int) -> bytes:
        """The bytes that token `id` stands for. Raises TypeError or ValueError as `decode` does."""
        try:
            if type(id) is not int and str(getattr(id, "dtype", type(id).__name__)).endswith("bool"):
                raise TypeError  # Python takes True for 1
            index = operator.index(id)
        except TypeError:
            raise TypeError(f"a token id must be a whole number, got {type(id).__name__}: {id!r}") from None
        if not 0 <= index < self.vocab_size:
            raise ValueError(f"token id {index} is outside the vocabulary: ids go from 0 to {self.vocab_size - 1}")
        if (data := self._bytes[index]) is None:
            raise ValueError(f"token id {index} is a gap in the vocabulary: it stands for no token")
        return data

    def token_text(self, id: int) -> str:
        r"""Token `id` as one line to look at: " hill", "\n", and "<0xF0>" for a byte of half a character."""
        decoded = self.token_bytes(id).decode("utf-8", errors="surrogateescape")
        return "".join(map(_visible, decoded))

    # ---- vocabularies ----------------------------------------------------------------------------

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        vocab_size: int,
        pattern: str = "gpt2",
        special_tokens: Sequence[str] = (),
        progress: bool = False,
    ) -> "Tokenizer":
        """Learn the merges from `text` (`train_bpe` says how, and what it raises) and make a tokenizer of them."""
        merges = train_bpe(text, vocab_size, pattern, special_tokens, progress)
        return cls.from_pairs(merges, special_tokens, pattern)

    @classmethod
    def from_pairs(
        cls, pairs: Sequence[tuple[bytes, bytes]], special_tokens: Sequence[str] = (), pattern: str = "gpt2"
    ) -> "Tokenizer":
        """From the merges of `train_bpe`. Ids: the 256 bytes as GPT-2 numbers them, what the merges made, then the
        special tokens. Raises ValueError where two merges make the same token.
        """
        tokens = [*BYTES_BY_ID, *(left + right for left, right in pairs)]
        token_ids = {token: id for id, token in enumerate(tokens)}
        if len(token_ids) < len(tokens):
            twice = next(token for id, token in enumerate(tokens) if token_ids[token] != id)
            raise ValueError(f"pairs must make tokens that differ, but {twice!r} is made twice")
        special = [SpecialToken(text, id) for id, text in enumerate(special_tokens, start=len(tokens))]
        return cls(token_ids, listed_merges(pairs), pattern, special)

    @classmethod
    def from_merges(
        cls,
        tokens: Sequence[str],
        merges: Iterable[str],
        special_tokens: dict[str, int],
        pattern: str,
        text_tokens: Collection[str] = (),
        before: Iterable[int] = (),
        behind: Iterable[int] = (),
    ) -> "Tokenizer":
        """From what a GGUF file holds: the tokens by id and the merges "a b" in order of rank, both written in
        the alphabet of `bytes_to_unicode`; special tokens are written as they are. `text_tokens`: those of them
        that are text, and steer nothing.

        Raises ValueError where a merge names what is no token.
        """
        ids = {token: id for id, token in enumerate(tokens)}
        if len(ids) < len(tokens):
            twice = next(token for id, token in enumerate(tokens) if ids[token] != id)
            raise ValueError(f"tokens must differ from one another, got {twice!r} twice")
        special = [SpecialToken(text, id, control=text not in text_tokens) for text, id in special_tokens.items()]
        token_ids, pairs = tokenizer_files.to_bytes(ids, merges, special_tokens)
        return cls(token_ids, listed_merges(pairs), pattern, special, before=before, behind=behind)

    @classmethod
    def from_tiktoken_file(
        cls,
        path: str | Path,
        pattern: str,
        special_tokens: dict[str, int],
        max_rank: int | None = None,
    ) -> "Tokenizer":
        """From a file of tiktoken: a line for each token, its bytes in base64 and its rank, which is its id.

        `max_rank`: leave out the tokens above. Raises ValueError for a line that cannot be read.
        """
        token_ids = tokenizer_files.read_tiktoken(path)
        if max_rank is not None:
            token_ids = {token: id for token, id in token_ids.items() if id <= max_rank}
        special = [SpecialToken(text, id) for text, id in special_tokens.items()]
        rank = any_two_that_make_a_token(token_ids)
        return cls(token_ids, rank, pattern, special, whole_word_first=True)

    @classmethod
    def from_tokenizer_json(cls, path: str | Path) -> "Tokenizer":
        """From Hugging Face's tokenizer.json, where it describes byte-level byte-pair encoding.

        What the file's post-processor puts around a text is in `before` and `behind`: `encode` adds nothing.
        Raises ValueError, naming the entry, for anything that would be encoded otherwise than `tokenizers` does.
        """
        parts = tokenizer_files.read_tokenizer_json(path)
        special = [SpecialToken(**token) for token in parts.pop("special_tokens")]
        merges = parts.pop("merges")
        return cls(rank=listed_merges(merges), special_tokens=special, **parts)

    @classmethod
    def from_vocab_and_merges(cls, folder: str | Path) -> "Tokenizer":
        """From a folder in GPT-2's first layout: vocab.json (token → id) and merges.txt (a merge on each line)."""
        token_ids, merges, special_tokens = tokenizer_files.read_vocab_and_merges(folder)
        special = [SpecialToken(text, id) for text, id in special_tokens.items()]
        return cls(token_ids, listed_merges(merges), "gpt2", special)

    @classmethod
    def from_folder(cls, folder: str | Path) -> "Tokenizer":
        """From a model's folder in Hugging Face's layout: tokenizer.json, or vocab.json with merges.txt."""
        folder = Path(folder)
        if (folder / "tokenizer.json").is_file():
            return cls.from_tokenizer_json(folder / "tokenizer.json")
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return cls.from_vocab_and_merges(folder)
        raise FileNotFoundError(
            f"folder {folder} holds no tokenizer: neither tokenizer.json, nor vocab.json with merges.txt"
        )


class StreamDecoder:
    """Ids in, text out, a whole character at a time: the bytes of half a character wait for the rest.

    All that `push` and `finish` give, joined, is `tokenizer.decode` of all the ids.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, id: int) -> str:
        """The text that became whole with token `id`; often one word, "" in the middle of a character."""
        return self._decoder.decode(self._tokenizer.token_bytes(id))

    def finish(self) -> str:
        """What is left at the end: U+FFFD for a character that was never completed, else ""."""
        return self._decoder.decode(b"", final=True)


def _bytes_by_id(token_ids: dict[bytes, int], special: dict[str, int]) -> list[bytes | None]:
    size = 1 + max(chain(token_ids.values(), special.values()), default=-1)
    table: list[bytes | None] = [None] * size
    for token, id in token_ids.items():
        if id < 0 or table[id] is not None:
            raise ValueError(f"each token must have an id of its own, from 0 on, got {id} for {token!r}")
        table[id] = token
    for text, id in special.items():
        if not text:
            raise ValueError(f"special_tokens must not hold the empty text (id {id})")
        if id < 0 or table[id] not in (None, text.encode()):
            raise ValueError(f"special_tokens gives {text!r} the id {id}, which is not free")
        table[id] = text.encode()
    return table


def _visible(character: str) -> str:
    if character in "\n\r\t":
        return {"\n": r"\n", "\r": r"\r", "\t": r"\t"}[character]
    if character.isprintable():
        return character
    return "".join(f"<0x{byte:02X}>" for byte in character.encode("utf-8", "surrogateescape"))


def _lone_surrogate(text: str) -> str:
    position = next(i for i, character in enumerate(text) if "\ud800" <= character <= "\udfff")
    return (
        f"text holds a lone surrogate, U+{ord(text[position]):04X}, at position {position}: half a"
        " character, which has no bytes in UTF-8. Read the text again with its right encoding, or"
        " replace it: text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
    )
