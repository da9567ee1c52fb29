"""What people hand in by mistake: each door refuses it in a sentence of its own, or takes it for what it plainly is.

A case is a door, one of its arguments, and a value in its place. Each argument says, apart from the library, which
values are good for it. Whatever else comes back without an error is a silent wrong result; an error that does not end
in a `raise` of course_lib is raw; what does not come back within seconds hangs.
"""

import contextlib
import copy
import io
import linecache
import operator
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import course_lib
from course_lib import arguments, assets
from course_lib.classroom.catch_up import catch_up
from course_lib.classroom.checking import check, grade, hint
from course_lib.classroom.claims import VERDICTS, verdict
from course_lib.config import Layer, TransformerConfig
from course_lib.input_processing.batching import keep_last, pack, pad
from course_lib.input_processing.bpe_training import train_bpe
from course_lib.input_processing.patterns import PATTERNS, split_words
from course_lib.input_processing.positions import alibi_slopes, binary_code, sinusoids
from course_lib.input_processing.tokenizer import Tokenizer
from course_lib.llm import LLM
from course_lib.prediction import sampling
from course_lib.prediction.beam_search import beam_search
from course_lib.prediction.calibration import calibration
from course_lib.prediction.generation import chooser, generate_batch, generate_ids
from course_lib.prediction.speculative import prompt_lookup, speculate
from course_lib.text_worlds import hill_world, shakespeare
from course_lib.training.batches import open_tokens, random_batch, save_tokens
from course_lib.training.evaluation import loss
from course_lib.training.loop import train
from course_lib.training.optimizer import schedule
from course_lib.training.recipes import loss_and_floor, spread_out
from course_lib.training.shakespeare_run import STORED, stored_curve
from course_lib.training.trainer import Trainer
from course_lib.transformer_block.transformer import Transformer

N_CASES, SECONDS = 500, 10.0
LIBRARY = str(Path(course_lib.__file__).parent) + os.sep


# ---- bad values ------------------------------------------------------------------------------------


class Silent:
    """An object that cannot say what it is."""

    def __repr__(self):
        raise RuntimeError("no")

    __str__ = __repr__


class Index:
    """Says that it is a whole number, and cannot say which."""

    def __index__(self):
        raise RuntimeError("no")

    __float__ = __index__


def holding_itself() -> list:
    rows = []
    rows.append(rows)
    return rows


def deep() -> list:
    rows = []
    for _ in range(100_000):
        rows = [rows]
    return rows


NAN, INF = float("nan"), float("inf")
VALUES: tuple[Callable[[], Any], ...] = (
    *(lambda value=value: value for value in (
        None, True, False, 0, 1, 2, -1, -(2**63), 2**63, 10**12, 10**30, 10**5000, -(10**5000), 1.0, 0.5, 1.5, -0.5,
        NAN, INF, -INF, 1e-320, 1e300, 1j, "", "x", "1", "nan", "\ud800", "a\0b", "the dog", "x" * 10_000, "../..",
        b"x", Decimal("1.5"), Decimal("nan"), Fraction(1, 3), (), (1, 2), range(3), object, Path("."), ...,
        np.int64(1), np.int8(-1), np.float32(0.5), np.float64("nan"), np.bool_(True), np.datetime64("2020"),
        NotImplemented, int,
    )),
    *(list, dict, set, Silent, Index, holding_itself, deep, object),
    lambda: [1], lambda: [1, 2], lambda: [[1]], lambda: [-1], lambda: [1.5], lambda: [NAN], lambda: [True],
    lambda: ["x"], lambda: ["x", 3], lambda: [None], lambda: [10**12], lambda: [Silent()], lambda: {"a": 1},
    lambda: {1: 2}, lambda: {1, 2}, lambda: bytearray(b"ab"), lambda: memoryview(b"ab"), lambda: (i for i in (1, 2)),
    lambda: lambda *_: None, lambda: lambda *_: 10**9,
    lambda: torch.tensor(1), lambda: torch.tensor(-1), lambda: torch.tensor(0.5), lambda: torch.tensor(NAN),
    lambda: torch.tensor(True), lambda: torch.tensor([]), lambda: torch.tensor([1, 2]), lambda: torch.tensor([0.5]),
    lambda: torch.zeros(2, 3), lambda: torch.empty(2, device="meta"), lambda: torch.empty((), device="meta"),
    lambda: torch.zeros(2, 2).to_sparse(), lambda: torch.tensor([1j]), lambda: torch.tensor([True, False]),
    lambda: np.array([1, 2]), lambda: np.array([0.5]), lambda: np.array(["x"]), lambda: np.array(None),
    lambda: np.array([]), lambda: np.zeros((2, 3)), lambda: torch.nn.Linear(2, 2), lambda: io.StringIO("x"),
    lambda: torch.Generator(), lambda: Counter("ab"), lambda: Path("/proc/self/mem"),
)  # fmt: skip


# ---- good ones -------------------------------------------------------------------------------------

Good = Callable[[Any], bool]
SMALLEST, LARGEST = 5e-324, 1.7e308  # of Python's floats


def of_truth(value: Any) -> bool:
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def whole(low: int, high: int = 2**64) -> Good:
    return lambda value: not of_truth(value) and low <= operator.index(value) <= high


def real(low: float, high: float = LARGEST) -> Good:
    return lambda value: not of_truth(value) and not isinstance(value, str | bytes) and low <= float(value) <= high


def many(good: Good, at_least: int = 0, kinds: Any = list | tuple | range) -> Good:
    """A list, or what is as good."""

    def fits(values):
        values = values.tolist() if hasattr(values, "tolist") else values
        return isinstance(values, kinds) and len(values) >= at_least and all(map(good, values))

    return fits


def optional(good: Good) -> Good:
    return either(lambda value: value is None, good)


def either(*goods: Good) -> Good:
    def fits(value):
        found = []
        for good in goods:
            with contextlib.suppress(Exception):  # the value is of another kind
                found.append(bool(good(value)))
        return any(found)

    return fits


def choice(*choices: str) -> Good:
    return lambda value: isinstance(value, str) and value in choices


def text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != ""


def truth(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def name_of_a_file(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def never(value: Any) -> bool:
    return False


def of_your_own(value: Any) -> bool:
    """What a function of your own raises is its own."""
    return value is None or callable(value)


EMPTY, EMPTY_OR_SET = many(never), many(never, kinds=list | tuple | range | set | dict)
ABOVE_0, SEED = real(SMALLEST), whole(-(2**63), 2**64 - 1)
IDS, ANY_IDS = many(whole(0, 49), 1), many(whole(0), kinds=list | tuple | range | set)
TEXTS = many(text, kinds=list | tuple | set)
SEEDS = many(optional(SEED), 1)
STOP = either(optional(text), TEXTS)
SETTINGS = dict(
    temperature=either(real(0, 0), real(1e-40, 1e38)),
    top_k=optional(whole(1)),
    top_p=optional(real(SMALLEST, 1)),
    min_p=optional(real(SMALLEST, 1)),
    repetition_penalty=real(1e-40, 1e38),
)
SAYING = dict(prompt=text, max_new_tokens=whole(0), stop=STOP, seed=optional(SEED), **SETTINGS)
TRAINING = dict(
    transformer=never, tokens=never, steps=whole(1, 3), batch_size=whole(1, 100), context_length=whole(1, 20),
    learning_rate=ABOVE_0, seed=SEED, progress=truth,
)  # fmt: skip
RUN = dict(
    begin_with=optional(whole(0, 6)), validation=optional(never), validate_every=whole(1), accumulate=whole(1, 2),
    precision=choice("auto", "float32", "bfloat16"), checkpoint_every=whole(1), checkpoint=optional(name_of_a_file),
)  # fmt: skip
SHAPE = dict(vocab_size=50, context_length=20, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, d_head=4, d_ff=8)


def words(value: Any) -> bool:
    return value in ("", "the dog") if isinstance(value, str) else EMPTY(value)


class Door(NamedTuple):
    do: Callable
    given: dict[str, Any]  # good values, with which it does its work
    good: dict[str, Good]  # of each argument that is tried, which values are good


def all_of(do: Callable) -> Callable:
    """A generator does nothing before it is asked."""
    return lambda **given: list(do(**given))


def says(do: Callable) -> Callable:
    """What it prints, which is never nothing."""

    def said(**given):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            do(**given)
        assert out.getvalue(), "it says nothing"

    return said


def greedy_choice(logits):
    return int(logits.argmax())


def checked(answer: Any) -> None:
    def greedy_choice(logits):
        return answer

    check(greedy_choice)


def the_doors(folder: Path) -> dict[str, Door]:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**SHAPE)).eval()
    tokenizer = Tokenizer.train("the dog ran up the hill . " * 9, 270)
    speaker = LLM(tokenizer, Transformer(TransformerConfig(**SHAPE | dict(vocab_size=270))).eval(), {3})
    tokens, source, greedy = torch.arange(60) % 7, torch.Generator().manual_seed(0), chooser(temperature=0)
    reader = Transformer(TransformerConfig(**SHAPE | dict(vocab_size=99, context_length=99))).eval()
    save_tokens(folder / "tokens.npy", tokens, 9)
    sizes = dict(steps=2, batch_size=2, context_length=4, progress=False)
    Trainer(copy.deepcopy(model), tokens, checkpoint=folder / "run.pt", **sizes).run(1)
    logits, prompts, training = (
        torch.zeros(3),
        dict(prompt=[1, 2], max_new_tokens=3),
        dict(transformer=model, tokens=tokens),
    )

    def on_a_copy(do):
        def done(transformer, **given):
            return do(copy.deepcopy(transformer) if transformer is model else transformer, **given)

        return done

    def run(**given):
        return Trainer(copy.deepcopy(model), tokens, **sizes).run(**given)

    def fetched(names):
        return names if names is None else assets.fetch(names)  # None is everything

    doors = {
        "Sampling": (sampling.Sampling, {}, SETTINGS),
        "chooser": (chooser, {}, SETTINGS | dict(seed=optional(SEED))),
        "temperature": (sampling.temperature, dict(logits=logits, t=1.0), dict(t=real(1e-40, 1e38))),
        "top_k": (sampling.top_k, dict(logits=logits, k=1), dict(k=whole(1))),
        "top_p": (sampling.top_p, dict(logits=logits, p=0.5), dict(p=real(SMALLEST, 1))),
        "min_p": (sampling.min_p, dict(logits=logits, p=0.5), dict(p=real(SMALLEST, 1))),
        "repetition_penalty": (
            sampling.repetition_penalty, dict(logits=logits, ids=torch.tensor([0]), penalty=1.5),
            dict(penalty=real(1e-40, 1e38)),
        ),
        "generate_ids": (
            all_of(generate_ids), prompts | dict(transformer=model, choose=greedy),
            dict(
                transformer=never, prompt=IDS, choose=of_your_own, max_new_tokens=whole(0), stop_ids=ANY_IDS,
                use_cache=truth,
            ),
        ),
        "generate_batch": (
            generate_batch, dict(transformer=model, prompts=[[1, 2]], choosers=[greedy], max_new_tokens=3),
            dict(transformer=never, prompts=many(IDS, 1), choosers=never, max_new_tokens=whole(0), stop_ids=ANY_IDS),
        ),
        "beam_search": (
            beam_search, prompts | dict(transformer=model, width=2),
            dict(
                transformer=never, prompt=IDS, width=whole(1), max_new_tokens=whole(0), end_ids=ANY_IDS,
                length_penalty=real(0, 100),
            ),
        ),
        "speculate": (
            all_of(speculate), prompts | dict(target=model, draft=prompt_lookup),
            dict(target=never, draft=of_your_own, prompt=IDS, n_guesses=whole(1), stop_ids=ANY_IDS, seed=optional(SEED))
            | SETTINGS,
        ),
        "prompt_lookup": (
            prompt_lookup, dict(ids=[1, 2, 1], n=2), dict(ids=many(whole(0)), n=whole(0), longest=whole(1))
        ),
        "calibration": (
            calibration, dict(probabilities=torch.tensor([0.1]), came=torch.tensor([True])),
            dict(
                probabilities=lambda value: torch.is_tensor(value) and value.tolist() == [0.5], came=never,
                n_bins=whole(1, 10**6),
            ),
        ),
        "pad": (
            pad, dict(sequences=[[1]], pad_id=0),
            dict(
                sequences=many(many(whole(0)), 1), pad_id=whole(-(2**63), 2**63 - 1), side=choice("right", "left")
            ),
        ),
        "pack": (
            pack, dict(documents=[[1]], length=2, end_id=0),
            dict(documents=many(many(whole(0)), 1), length=whole(1, 2**24), end_id=whole(-(2**63), 2**63 - 1)),
        ),
        "keep_last": (
            keep_last, dict(ids=[1, 2], window=1),
            dict(ids=lambda value: not isinstance(value, str | bytes | set | dict), window=whole(1)),
        ),
        "binary_code": (binary_code, dict(positions=torch.arange(2), bits=3), dict(bits=whole(1, 63))),
        "sinusoids": (
            sinusoids, dict(positions=torch.arange(2), d_model=4), dict(d_model=whole(2, 10**4), base=ABOVE_0)
        ),
        "alibi_slopes": (alibi_slopes, dict(n_heads=3), dict(n_heads=whole(1, 10**4))),
        "split_words": (split_words, dict(pattern="gpt2"), dict(pattern=choice("../..", *PATTERNS))),
        "train_bpe": (
            train_bpe, dict(text="the dog", vocab_size=258),
            dict(
                text=lambda value: isinstance(value, str | io.StringIO | tuple | set) or TEXTS(value) or EMPTY(value),
                vocab_size=whole(256, 0x110000), pattern=choice("../.."), special_tokens=TEXTS, progress=truth,
            ),
        ),
        "TransformerConfig": (
            TransformerConfig, SHAPE,
            {name: whole(1, 2**31 - 1) for name in SHAPE}
            | dict(rope_theta=ABOVE_0, norm_eps=ABOVE_0, bias=truth, tie_embeddings=truth, norm=never, positions=never)
            | dict(n_layers=whole(1, 10_000), n_experts=whole(1, 10_000), pattern=lambda value: value in ((), [])),
        ),
        "Layer": (Layer, {}, dict(window=optional(whole(1)), rope_theta=optional(ABOVE_0))),
        "hill_world.text": (
            hill_world.text, dict(n_words=3), dict(n_words=whole(0, 99), seed=whole(-(2**64)))
        ),
        "hill_world.encode": (hill_world.encode, dict(text="the dog"), dict(text=words)),
        "hill_world.decode": (hill_world.decode, dict(ids=[1]), dict(ids=many(whole(0, 80)))),
        "next_word_distribution": (hill_world.next_word_distribution, {}, dict(prefix=words)),
        "log_probability": (hill_world.log_probability, dict(text="the dog"), dict(text=words)),
        "shakespeare.text": (
            shakespeare.text, {}, dict(without=EMPTY_OR_SET)
        ),
        "random_batch": (
            random_batch, dict(tokens=tokens, batch_size=2, context_length=4, generator=source),
            dict(
                tokens=never, batch_size=whole(1, 100), context_length=whole(1, 59),
                generator=lambda value: isinstance(value, torch.Generator),
            ),
        ),
        "save_tokens": (
            save_tokens, dict(path=folder / "saved.npy", tokens=[1, 2], vocab_size=9),
            dict(path=name_of_a_file, tokens=many(whole(0, 8), 1), vocab_size=whole(3, 2**32)),
        ),
        "open_tokens": (open_tokens, dict(path=folder / "tokens.npy"), dict(path=name_of_a_file)),
        "loss": (
            loss, training | dict(context_length=4),
            dict(
                transformer=never, tokens=never, context_length=whole(1, 20), past=whole(0, 3),
                batch_size=whole(1, 10**7),
            ),
        ),
        "train": (on_a_copy(train), training | sizes, TRAINING),
        "Trainer": (Trainer, training | sizes, TRAINING | RUN | dict(steps=whole(1))),
        "Trainer.run": (run, dict(until=1), dict(until=optional(whole(0, 2)), watch=of_your_own)),
        "Trainer.resume": (
            Trainer.resume, dict(path=folder / "run.pt", tokens=tokens, on="cpu", progress=False),
            dict(path=never, tokens=never, on=optional(never), progress=truth, validation=optional(never)),
        ),
        "schedule": (
            schedule, dict(step=1, steps=9), dict(step=whole(0, 9), steps=whole(1), warm_up=optional(whole(1)))
        ),
        "spread_out": (
            on_a_copy(spread_out), dict(transformer=model),
            dict(transformer=never, seed=SEED, of_tokens=real(0, 1000)),
        ),
        "loss_and_floor": (
            loss_and_floor, dict(transformer=reader, n_stories=1),
            dict(transformer=never, n_stories=whole(1, 2), seed=whole(-(2**64))),
        ),
        "stored_curve": (stored_curve, dict(path=STORED), dict(path=never)),
        "verdict": (
            verdict, dict(claim="a", verdict="holds", because="b"),
            dict(claim=text, verdict=choice(*VERDICTS), because=text),
        ),
        "check": (says(check), dict(function="greedy_choice"), dict(function=lambda _: True)),
        "check an answer": (says(checked), dict(answer=1), dict(answer=lambda _: True)),
        "hint": (says(hint), dict(function="greedy_choice"), dict(function=lambda _: True)),
        "grade": (grade, dict(function=greedy_choice), dict(function=never, part=optional(never))),
        "catch_up": (catch_up, dict(before="00", workspace=folder), dict(before=never)),
        "assets.path": (assets.path, dict(name="smollm2-135m"), dict(name=never)),
        "assets.paths": (assets.paths, dict(group="shakespeare"), dict(group=never)),
        "assets.fetch": (fetched, dict(names=["shakespeare"]), dict(names=optional(EMPTY_OR_SET))),
        "LLM.generate": (speaker.generate, prompts | dict(prompt="the"), SAYING),
        "LLM.stream": (all_of(speaker.stream), prompts | dict(prompt="the"), SAYING),
        "LLM.generate_batch": (
            lambda prompt, **given: speaker.generate_batch(prompt, **given), dict(prompt=["the"], max_new_tokens=3),
            SAYING | dict(prompt=many(text, 1), seed=either(optional(SEED), SEEDS)),
        ),
        "LLM.next_token_probabilities": (
            speaker.next_token_probabilities, dict(prompt="the"), dict(prompt=text, k=whole(1))
        ),
        "LLM.trace": (speaker.trace, dict(prompt="the"), dict(prompt=text)),
        "LLM.logits": (speaker.logits, dict(prompt="the"), dict(prompt=text)),
    }  # fmt: skip
    return {name: Door(*door) for name, door in doors.items()}


# ---- what came of it -------------------------------------------------------------------------------


class Hangs(BaseException):
    """It did not come back in time."""


def is_ours(error: BaseException) -> bool:
    """Whether it is a sentence, and a `raise` of the library itself."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename
    ours = file.startswith(LIBRARY) and linecache.getline(file, trace.tb_lineno).strip().startswith("raise ")
    kinds = ValueError | TypeError | OSError | RuntimeError | AssertionError
    return ours and isinstance(error, kinds) and str(error).strip() != "" and "\n" not in str(error)


def outcome(door: Door, name: str, value: Any) -> str:
    """ "good", "a sentence", or what is wrong with it."""

    def ring(*_):
        raise Hangs

    if door.good[name] is of_your_own and callable(value):
        return "good"
    try:
        good = bool(door.good[name](value))
    except Exception:
        good = False
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        door.do(**door.given | {name: value})
    except Hangs:
        return "hangs"
    except BaseException as error:
        return "a sentence" if is_ours(error) else f"raw {type(error).__name__}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return "good" if good else "silent"


def cases(doors: dict[str, Door], chance: random.Random | None) -> Iterator[tuple[str, str, Any]]:
    """Every one, or N_CASES of them, by chance: each argument of each door is as likely."""
    every = [(door, name) for door in doors for name in doors[door].good]
    if chance is None:
        return ((*argument, make()) for argument in every for make in VALUES)
    return ((*chance.choice(every), chance.choice(VALUES)()) for _ in range(N_CASES))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="nothing here can stop what hangs")
@pytest.mark.usefixtures("bad_input")
def test_bad_values_end_in_a_sentence(tmp_path, monkeypatch):
    """COURSE_BAD_INPUT is the seed of an earlier run, or "all"."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_DATA", os.environ.get("COURSE_DATA", str(assets.data_folder())))
    said = os.environ.get("COURSE_BAD_INPUT") or str(random.randrange(10**6))
    doors, found, shown = the_doors(tmp_path), Counter(), []
    for door in doors.values():
        door.do(**door.given)
    for door, name, value in cases(doors, None if said == "all" else random.Random(said)):
        what = outcome(doors[door], name, value)
        kind = what.split()[0]
        found[kind] += 1
        if kind in ("raw", "silent", "hangs"):
            shown.append(f"{what}: {door}({name}={type(value).__name__} {arguments.shown(value)})")
    print(f"COURSE_BAD_INPUT={said}: {dict(found)}", *shown, sep="\n")
    assert not found["silent"] and not found["hangs"] and found["raw"] < 0.01 * found.total(), (
        f"COURSE_BAD_INPUT={said}"
    )
