"""A trace in a terminal, in the phase colours: what `python -m course_lib trace` prints."""

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from course_lib.drawing.style import PHASES
from course_lib.drawing.words import duration, percent, size_in_words
from course_lib.interpretation.trace import Trace

BAR = 40  # characters for a probability of 1
BLOCKS_SHOWN = 7
TOKENS_SHOWN = 16


def print_trace(trace: Trace, console: Console | None = None) -> None:
    """Print a prompt's journey: three panels, one a phase, then the time each stage took."""
    console = console or Console(highlight=False)
    for number, content in ((1, _input(trace)), (2, _blocks(trace)), (3, _prediction(trace))):
        phase = PHASES[number]
        console.print(Panel(content, title=f"[bold]{phase.heading}", title_align="left", border_style=phase.medium))
    console.print(_stages(trace))


def _input(trace: Trace) -> RenderableType:
    n, d_model = trace.embeddings.shape
    table = Table("token", "id", "its bytes", "its vector (the first 4 numbers)", box=None, pad_edge=False)
    rows = list(zip(trace.tokens, trace.ids, trace.token_bytes, trace.embeddings, strict=True))
    for token, id, own_bytes, vector in rows[-TOKENS_SHOWN:]:
        numbers = " ".join(f"{value:+.3f}" for value in vector[:4].tolist())
        table.add_row(Text(repr(token)), str(id), Text(own_bytes.hex(" ")), f"{numbers} …")
    note = f"{len(trace.raw_bytes)} bytes → {n} tokens → {n} vectors of {d_model} numbers"
    if n > TOKENS_SHOWN:
        note += f" (the last {TOKENS_SHOWN} tokens shown)"
    return Group(Text(note), table)


def _blocks(trace: Trace) -> RenderableType:
    layers, heads, n, _ = trace.attention.shape
    table = Table("after block", "vector length", "the next token, if it stopped here", "", box=None, pad_edge=False)
    lengths = trace.residual_stream[:, -1].norm(dim=-1).tolist()
    for depth in sorted({round(i * layers / (BLOCKS_SHOWN - 1)) for i in range(BLOCKS_SHOWN)}):
        token, probability = trace.guesses[depth]
        table.add_row(str(depth), f"{lengths[depth]:.0f}", Text(repr(token)), percent(probability))
    first = trace.attention[:, :, -1, 0].mean().item()
    note = f"{layers} blocks × {heads} heads; from the last token, {percent(first)} of the attention goes to the first"
    return Group(Text(note), table) if n > 1 else table


def _prediction(trace: Trace) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False)
    blue = PHASES[3].medium
    for token, probability in trace.top(10):
        bar = Text("█" * max(1, round(probability * BAR)), style=blue)
        chosen = " ← chosen" if token == trace.chosen_token else ""
        table.add_row(Text(repr(token)), f"{percent(probability)}", bar + chosen)
    answer = Text(f"\n{trace.prompt}") + Text(trace.chosen_token, style=f"bold {blue}")
    return Group(
        Text(f"{len(trace.logits):,} scores → {len(trace.probabilities):,} probabilities → 1 token"), table, answer
    )


def _stages(trace: Trace) -> Table:
    table = Table("stage", "time", "result", box=None, pad_edge=False)
    for stage in trace.stages:
        colour = PHASES[stage.phase].medium
        table.add_row(Text(stage.name, style=colour), duration(stage.seconds), size_in_words(stage.bytes))
    return table
