"""A character model of Shakespeare, against a trigram: `python -m course_lib.training.shakespeare_run`.

About a million parameters, trained on 40 works, tried on a play that neither model has seen. It takes 74 s on two
cores, and is ahead of the trigram after 30. The curve that lesson 11 shows is kept in shakespeare_curve.json
beside this file; `--curve` writes a new one elsewhere. Several processes share the work:
`torchrun --nproc-per-node 2 -m course_lib.training.shakespeare_run`.
"""

import json
import math
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from course_lib.arguments import path_of, whole
from course_lib.config import TransformerConfig
from course_lib.files import replacing
from course_lib.prediction.generation import chooser, generate_ids
from course_lib.text_worlds import shakespeare
from course_lib.training.evaluation import loss
from course_lib.training.processes import place, together
from course_lib.training.recipes import spread_out
from course_lib.training.trainer import Trainer
from course_lib.training.trigram import bits_per_token, count, trigram, tuned_discounts
from course_lib.transformer_block.transformer import Transformer

HELD_OUT, TUNING = "tempest", "hamlet"  # the trigram's discounts are tuned on the second
CONTEXT, BATCH, STEPS, LEARNING_RATE = 128, 32, 400, 3e-3
SHAPE = dict(
    d_model=128, n_layers=5, n_heads=4, n_kv_heads=4, d_head=32, d_ff=512,
    norm="layer_norm", feed_forward="mlp", activation="relu",
)  # fmt: skip
STORED = Path(__file__).with_name("shakespeare_curve.json")


@dataclass
class Curve:
    """What a run measured: after `steps[i]` steps and `seconds[i]` seconds, measuring included, `bits[i]`."""

    steps: list[int]
    seconds: list[float]
    processor_seconds: list[float]  # what this process computed, all threads together: other work does not count
    bits: list[float]  # held-out bits per character
    trigram_bits: float  # the trigram's, on the same play
    trigram_discounts: list[float]
    parameters: int
    characters_per_step: int
    sample: str  # what the model writes
    machine: dict[str, str | int]
    versions: dict[str, str]


def stored_curve(path: str | Path = STORED) -> Curve:
    """The curve of a run that was made for the course, or of your own.

    Raises:
        ValueError: the file holds none.
    """
    path = path_of("path", path)
    try:
        return Curve(**json.loads(path.read_text("utf-8")))
    except OSError as error:
        raise OSError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"{path} holds no curve of a run: make one with `--curve`") from None


def texts() -> tuple[list[str], Tensor, Tensor, Tensor]:
    """The characters, whose ids are their places; and the ids of the training, the held-out and the tuning text."""
    works = shakespeare.works()
    characters = sorted(set("".join(works.values())))
    ids = {character: id for id, character in enumerate(characters)}
    held_out, tuning = works.pop(HELD_OUT), works.pop(TUNING)
    rows = (torch.tensor([ids[c] for c in text]) for text in ("".join(works.values()), held_out, tuning))
    return characters, *rows


def main(
    steps: Annotated[int, typer.Option(help="How many steps of 4,096 characters.")] = STEPS,
    curve: Annotated[Path | None, typer.Option(help="A file to write the curve to.")] = None,
) -> None:
    """Train a character model of Shakespeare and hold it against a trigram."""
    with together() as device:
        measured = train(steps, device)
        if place()[0] > 0 or measured is None:
            return
        print(
            f"{measured.parameters:,} parameters, {measured.seconds[-1]:.0f} s, "
            f"{measured.processor_seconds[-1]:.0f} s of processor time"
        )
        print(f"held-out bits per character: {measured.bits[-1]:.2f}, the trigram's {measured.trigram_bits:.2f}")
        print(measured.sample)
        if curve is not None:
            with replacing(curve) as beside:
                beside.write_text(json.dumps(asdict(measured), indent=1, ensure_ascii=False) + "\n", "utf-8")


def train(steps: int, device: torch.device) -> Curve | None:
    """The curve of a whole run; None for one that was interrupted."""
    steps = whole("steps", steps, 1)
    characters, training, held_out, tuning = texts()
    config = TransformerConfig(vocab_size=len(characters), context_length=CONTEXT, **SHAPE)
    transformer = spread_out(Transformer(config)).to(device)
    trainer = Trainer(
        transformer, training, steps=steps, batch_size=BATCH, context_length=CONTEXT, learning_rate=LEARNING_RATE,
        validation=held_out, validate_every=max(1, steps // 8),
    )  # fmt: skip
    trainer.validation_losses.append((0, loss(transformer, held_out, context_length=CONTEXT)))
    clocks = [(time.perf_counter(), time.process_time())]

    def clock(run: Trainer) -> None:
        if len(clocks) < len(run.validation_losses):
            clocks.append((time.perf_counter(), time.process_time()))

    trainer.run(watch=clock)
    if trainer.step < steps:
        return None
    counts = count(training, len(characters))
    discounts = tuned_discounts(counts, tuning)
    start = held_out[:1].tolist()
    return Curve(
        steps=[step for step, _ in trainer.validation_losses],
        seconds=[round(wall - clocks[0][0], 1) for wall, _ in clocks],
        processor_seconds=[round(computing - clocks[0][1], 1) for _, computing in clocks],
        bits=[round(nats / math.log(2), 4) for _, nats in trainer.validation_losses],
        trigram_bits=round(bits_per_token(trigram(counts, discounts), held_out), 4),
        trigram_discounts=list(discounts),
        parameters=transformer.n_parameters(),
        characters_per_step=BATCH * CONTEXT,
        sample="".join(
            characters[id]
            for id in generate_ids(transformer, start, chooser(temperature=0.8, seed=1), CONTEXT - 1)
        ),
        machine=dict(
            processor=torch.cpu.get_capabilities().get("cpu_name", platform.machine()), device=device.type,
            processes=place()[1], threads=torch.get_num_threads(), precision=trainer.settings["precision"],
        ),
        versions=dict(python=platform.python_version(), torch=torch.__version__),
    )  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
