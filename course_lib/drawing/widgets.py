"""Figures that answer sliders: ipywidgets in front of pure functions.

What a widget shows is computed where no widget is known (`playground`). Here are only the sliders, and what happens
when one moves.
"""

import asyncio
import base64
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import ipywidgets
from traitlets import validate

from course_lib.drawing.playground import LiveBars, Reshaped, how_does_it_go_on, in_words, reshape, summary

SEEDS = (1, 2, 3)
LONGEST_PROMPT = 128  # tokens: a longer one would hold the kernel up for seconds
REST = 0.5  # seconds without a change before the continuations are generated
BREATH = 0.005  # seconds between two tokens in which the kernel takes messages


def sampling_playground(llm, prompt: str, max_new_tokens: int = 8) -> ipywidgets.Widget:
    """The learner's own prompt, sliders for temperature and top-p, next-token bars, three seeded continuations."""
    sliders, rows = zip(
        labelled_slider("temperature", 0.0, 2.0, value=1.0), labelled_slider("top-p", 0.05, 1.0, value=1.0), strict=True
    )

    def settings() -> dict[str, float]:
        temperature, top_p = (slider.value for slider in sliders)
        return {"temperature": temperature, "top_p": top_p}

    def look(logits, ids, settings):
        state = reshape(logits, llm.tokenizer.token_text, **settings)
        return state, summary(state), in_words(state)

    return playground(llm, prompt, sliders, rows, settings, look, max_new_tokens)


def playground(
    llm,
    prompt: str,
    sliders: Sequence[ipywidgets.Widget],
    rows: Sequence[ipywidgets.Widget],
    settings: Callable[[], dict[str, Any]],
    look: Callable[..., tuple[Reshaped, str, str]],
    max_new_tokens: int,
) -> ipywidgets.Widget:
    """A prompt, `rows` with sliders, next-token bars, and three seeded continuations.

    `settings()` reads the sliders: they are what `llm.stream` takes. `look(logits, ids, settings)` gives what the bars
    show, a short sentence above them, and a long one that is their text equivalent.

    The bars follow a slider at once. The continuations take a second, so they wait until the sliders rest, come token
    by token, and are given up when something changes. What is wrong with a prompt is said below it, in a sentence.
    """
    text = ipywidgets.Text(
        prompt, description="prompt", continuous_update=False, style=LABELS, layout={"width": "34em"}
    )
    problem, bars, left, continuations = (ipywidgets.HTML() for _ in range(4))
    ids, logits, live = None, None, None  # None while the prompt is at fault
    turn = 0  # grows with every change: what was begun in an earlier turn is out of date
    tasks = set()  # asyncio itself does not keep a task alive

    def read_prompt(_=None) -> None:
        nonlocal ids, logits, live, turn
        turn += 1
        try:
            ids, logits = _read(llm, text.value)
        except ValueError as error:
            logits = None
            problem.value, bars.value, left.value, continuations.value = complaint(error), "", "", ""
            return
        problem.value = ""
        state, _, _ = look(logits, ids, settings())
        live = LiveBars(state, how_does_it_go_on(text.value))
        redraw()

    def redraw(_=None) -> None:
        nonlocal turn
        if logits is None:
            return
        turn += 1
        state, short, long = look(logits, ids, settings())
        bars.value = picture_html(live.png(state), long, LiveBars.CSS_SIZE)
        left.value = f"<b>{escape(short)}</b>"
        continuations.value = _lines([""] * len(SEEDS), done=0)
        _soon(continue_text(turn), tasks)

    async def continue_text(mine: int) -> None:
        await asyncio.sleep(REST)
        prompt, chosen = text.value, settings()
        texts = [""] * len(SEEDS)
        try:
            for i, seed in enumerate(SEEDS):
                if turn != mine:
                    return
                for piece in llm.stream(prompt, max_new_tokens, **chosen, seed=seed):
                    if turn != mine:
                        return
                    texts[i] += piece
                    continuations.value = _lines(texts, done=i)
                    await asyncio.sleep(BREATH)
            if turn == mine:
                continuations.value = _lines(texts, done=len(SEEDS))
        except (ValueError, RuntimeError) as error:
            continuations.value = complaint(error)

    text.observe(read_prompt, "value")
    for slider in sliders:
        slider.observe(redraw, "value")
    read_prompt()
    return ipywidgets.VBox([text, problem, *rows, left, bars, continuations])


LABELS = {"description_width": "6.5em"}


def labelled_slider(name: str, lowest: float, highest: float, value: float, step: float = 0.05):
    """A number field, and the row to show: the field with the name, and a slider beside it.

    ipywidgets gives a slider's handle no accessible name; a number field's label is a real one. The field follows the
    slider, and is what to read and to observe: the slider says 17.999999999999996 where it stands at 18.
    """
    settings = dict(value=value, min=lowest, max=highest, step=step)
    number = _Field(**settings, description=name, style=LABELS, layout={"width": "13em"})
    slider = ipywidgets.FloatSlider(**settings, readout=False, layout={"width": "20em"})
    # here and not in the browser (jslink), where the field would get the slider's own number
    ipywidgets.link((slider, "value"), (number, "value"))
    return number, ipywidgets.HBox([number, slider])


class _Field(ipywidgets.BoundedFloatText):
    """A number with no more decimals than its step."""

    @validate("value")
    def _validate_value(self, proposal) -> float:
        decimals = len(f"{self.step:g}".partition(".")[2])
        return round(super()._validate_value(proposal), decimals)


def _read(llm, prompt: str):
    ids = llm.prompt_ids(prompt)
    if len(ids) > LONGEST_PROMPT:
        raise ValueError(
            f"the prompt has {len(ids):,} tokens, and this playground takes up to {LONGEST_PROMPT}: "
            "shorten it, or call llm.generate in a cell"
        )
    return ids, llm.logits(prompt)


def _soon(work, tasks: set) -> None:
    """Run `work` beside the kernel's own, or, where nothing runs (plain Python), now."""
    try:
        task = asyncio.get_running_loop().create_task(work)
    except RuntimeError:
        asyncio.run(work)
    else:
        tasks.add(task)
        task.add_done_callback(tasks.discard)


# ---- HTML ---------------------------------------------------------------------------------------


def picture_html(png: bytes, alt: str, size: tuple[int, int]) -> str:
    # ipywidgets.Image has no alt text. Decoded before it is shown: no flicker from one picture to the next
    data = base64.b64encode(png).decode("ascii")
    width, height = size
    return (
        f'<img alt="{escape(alt)}" width="{width}" height="{height}" decoding="sync" '
        f'style="max-width: 100%; height: auto" src="data:image/png;base64,{data}">'
    )


def _lines(texts: list[str], done: int) -> str:
    """A line for each seed's continuation; those from `done` on end in "…", for there is more to come."""
    rows = []
    for i, (seed, text) in enumerate(zip(SEEDS, texts, strict=True)):
        text = escape(text).replace("\n", "↵") + ("…" if i >= done else "")
        rows.append(f'seed {seed}: <span style="white-space: pre-wrap; font-weight: 600">{text}</span>')
    return f'<div style="line-height: 1.7">{"<br>".join(rows)}</div>'


def complaint(error: Exception) -> str:
    sentence = str(error)
    return f'<span role="alert">⚠ {escape(sentence[:1].upper() + sentence[1:])}.</span>'
