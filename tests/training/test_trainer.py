"""The Trainer: one step is what it says, a break leaves no trace, parts and processes add up to one batch."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
import torch
import torch.nn.functional as F

from course_lib import files
from course_lib.config import TransformerConfig
from course_lib.training import checkpoint, trainer
from course_lib.training.batches import random_batch, save_tokens
from course_lib.training.evaluation import loss
from course_lib.training.optimizer import AdamW, clip_gradients, schedule
from course_lib.training.trainer import Trainer
from course_lib.transformer_block.transformer import Transformer

SMALL = dict(batch_size=4, context_length=10, progress=False)


@pytest.fixture
def fresh(tiny):
    def make(**settings):
        transformer = tiny(**settings)
        for parameter in transformer.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.1)
        return transformer

    return make


@pytest.fixture
def tokens():
    return torch.randint(50, (400,), generator=torch.Generator().manual_seed(1))


def weights(transformer):
    return [parameter.detach().clone() for parameter in transformer.parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


# ---- what a step is -------------------------------------------------------------------------------


def test_the_steps_are_those_of_the_parts_from_scratch(fresh, tokens, monkeypatch):
    """The same loop from our own pieces: batch, loss, clipping, rate, AdamW."""
    monkeypatch.setattr(trainer, "LONGEST_GRADIENT", 0.5)
    ours, theirs = fresh(), fresh()
    steps, peak, generator = 30, 3e-2, torch.Generator().manual_seed(7)
    parameters = list(ours.parameters())
    optimizer, losses, lengths = AdamW(parameters, peak), [], []
    for step in range(steps):
        inputs, targets = random_batch(tokens, 4, 10, generator)
        error = F.cross_entropy(ours(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        error.backward()
        clipped, length = clip_gradients([parameter.grad for parameter in parameters], trainer.LONGEST_GRADIENT)
        for parameter, gradient in zip(parameters, clipped, strict=True):
            parameter.grad = gradient
        optimizer.learning_rate = peak * schedule(step, steps)
        optimizer.step()
        losses.append(error.item())
        lengths.append(length)
    assert min(lengths) < trainer.LONGEST_GRADIENT < max(lengths)  # some are clipped, some are not
    run = Trainer(theirs, tokens, steps=steps, learning_rate=peak, seed=7, precision="float32", **SMALL).run()
    assert run == pytest.approx(losses, abs=2e-4)


def test_windows_begin_with_the_token_asked_for(fresh, tokens, monkeypatch):
    seen = []

    def kept(tokens, starts, context_length):
        seen.append(starts)
        return windows(tokens, starts, context_length)

    windows = trainer.windows
    monkeypatch.setattr(trainer, "windows", kept)
    Trainer(fresh(), tokens, steps=20, begin_with=7, **SMALL).run()
    starts = torch.cat(seen)
    assert (tokens[starts] == 7).all()
    assert {*starts.tolist()} == {*(tokens[:390] == 7).nonzero().flatten().tolist()}  # and each of them comes


@pytest.mark.parametrize("accumulate", [2, 4])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_batch_in_parts_is_the_batch(fresh, tokens, accumulate, precision):
    settings = dict(steps=6, precision=precision, **SMALL)
    whole, parts = fresh(), fresh()
    one = Trainer(whole, tokens, **settings).run()
    other = Trainer(parts, tokens, accumulate=accumulate, **settings).run()
    assert other == pytest.approx(one, abs=1e-5 if precision == "float32" else 1e-2)


def test_bfloat16_rounds_and_learns_alike(fresh, tokens):
    one = Trainer(fresh(), tokens, steps=20, precision="float32", **SMALL).run()
    model = fresh()
    other = Trainer(model, tokens, steps=20, precision="bfloat16", **SMALL).run()
    assert one != other and one == pytest.approx(other, abs=0.05)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_validation_is_measured_on_the_way_and_at_the_end(fresh, tokens):
    model = fresh()
    run = Trainer(model, tokens[:300], steps=7, validation=tokens[300:], validate_every=3, **SMALL)
    run.run(until=3)
    assert run.validation_losses == [(3, loss(model, tokens[300:], context_length=10))]
    run.run()
    assert [step for step, _ in run.validation_losses] == [3, 6, 7]
    assert run.validation_losses[-1][1] == loss(model, tokens[300:], context_length=10)


def test_tokens_may_lie_in_a_file(fresh, tokens, tmp_path):
    from course_lib.training.batches import open_tokens

    save_tokens(tmp_path / "t.npy", tokens, 50)
    run = dict(steps=3, begin_with=7, **SMALL)
    assert Trainer(fresh(), open_tokens(tmp_path / "t.npy"), **run).run() == Trainer(fresh(), tokens, **run).run()


def test_it_watches(fresh, tokens):
    seen = []
    Trainer(fresh(), tokens, steps=3, **SMALL).run(watch=lambda run: seen.append((run.step, run.losses[-1])))
    assert [step for step, _ in seen] == [1, 2, 3]


# ---- breaks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_resumed_run_has_the_same_losses_bit_for_bit(fresh, tokens, tmp_path, precision, family):
    settings = dict(steps=12, precision=precision, validation=tokens[:50], validate_every=4, accumulate=2, **SMALL)
    whole = fresh(family=family)
    unbroken = Trainer(whole, tokens, **settings)
    unbroken.run()

    path = tmp_path / "deep" / "run.pt"
    Trainer(fresh(family=family), tokens, checkpoint=path, **settings).run(until=5)
    for until in (6, 9, None):
        torch.manual_seed(99)  # nothing may hang on the global generator
        again = Trainer.resume(path, tokens, validation=tokens[:50], on="cpu", progress=False)
        assert again.checkpoint == path
        again.run(until)
    assert again.losses == unbroken.losses and again.validation_losses == unbroken.validation_losses
    assert same(again.transformer, whole)


def test_a_run_in_pieces_is_the_run(fresh, tokens):
    whole = Trainer(fresh(), tokens, steps=9, **SMALL).run()
    pieces = Trainer(fresh(), tokens, steps=9, **SMALL)
    for until in (0, 2, 2, 7, 9, 9):
        assert pieces.run(until) == whole[:until] and pieces.step == until
    with pytest.raises(ValueError, match="until must be from 0 to the last step, 9, got 10"):
        pieces.run(10)


def test_checkpoints_on_the_way(fresh, tokens, tmp_path):
    path, steps = tmp_path / "run.pt", []

    def watch(run):
        steps.append(len(checkpoint.read_checkpoint(path)["losses"]) if path.exists() else 0)

    Trainer(fresh(), tokens, steps=8, checkpoint=path, checkpoint_every=3, **SMALL).run(watch=watch)
    assert steps == [0, 0, 3, 3, 3, 6, 6, 6]
    assert len(checkpoint.read_checkpoint(path)["losses"]) == 8
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


def test_an_interrupt_waits_for_the_step_and_loses_nothing(fresh, tokens, tmp_path, capsys):
    """A real signal, in the middle of a step: the step is finished and kept; the next run goes on to the same end."""
    whole = Trainer(fresh(), tokens, steps=9, **SMALL).run()
    usual = signal.getsignal(signal.SIGINT)
    settings = SMALL | dict(progress=True)
    run = Trainer(fresh(), tokens, steps=9, checkpoint=tmp_path / "run.pt", **settings)
    forward = run._model.forward
    run._model.forward = interrupting(run, forward, at=4, times=1)
    assert run.run() == whole[:5]  # no traceback
    assert signal.getsignal(signal.SIGINT) is usual
    assert "stopped after step 5 of 9" in capsys.readouterr().out
    run._model.forward = forward
    assert Trainer.resume(tmp_path / "run.pt", tokens, on="cpu", progress=False).run() == whole
    assert run.run() == whole


def interrupting(run, forward, at, times):
    def interrupted(ids):
        if run.step == at:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return forward(ids)

    return interrupted


def test_a_second_interrupt_stops_at_once_and_the_step_is_done_again(fresh, tokens):
    whole = Trainer(fresh(), tokens, steps=9, **SMALL).run()
    run = Trainer(fresh(), tokens, steps=9, **SMALL)
    forward = run._model.forward
    run._model.forward = interrupting(run, forward, at=4, times=2)
    assert run.run() == whole[:4]
    run._model.forward = forward
    assert run.run() == whole


def test_outside_of_the_main_thread(fresh, tokens):
    run = Trainer(fresh(), tokens, steps=2, **SMALL)
    thread = threading.Thread(target=run.run)
    thread.start()
    thread.join()
    assert run.step == 2


# ---- files that cannot be read or written ----------------------------------------------------------


@pytest.fixture
def saved(fresh, tokens, tmp_path):
    path = tmp_path / "run.pt"
    Trainer(fresh(), tokens, steps=4, checkpoint=path, **SMALL).run(2)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole: whole[: len(whole) // 2], "is damaged, or no checkpoint at all"),
        (lambda whole: whole[:-1], "is damaged, or no checkpoint at all"),
        (lambda whole: b"", "is damaged, or no checkpoint at all"),
        (lambda whole: b"the dog ran up the hill", "is damaged, or no checkpoint at all"),
        (lambda whole: b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.", "is damaged, or no checkpoint at all"),  # runs code
    ],
)
def test_a_damaged_file_is_one_sentence(saved, tokens, content, message):
    saved.write_bytes(content(saved.read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        Trainer.resume(saved, tokens)
    assert "\n" not in str(caught.value) and str(saved) in str(caught.value)


@pytest.mark.parametrize("foreign", [{"weights": 1}, [1, 2], torch.zeros(2)])
def test_a_foreign_file_is_one_sentence(tmp_path, tokens, foreign):
    torch.save(foreign, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt is no checkpoint that a Trainer wrote"):
        Trainer.resume(tmp_path / "other.pt", tokens)


def test_a_missing_file_and_other_tokens(saved, tokens, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*none\.pt: a Trainer with checkpoint="):
        Trainer.resume(tmp_path / "none.pt", tokens)
    for others in (tokens[:-1], tokens.flip(0)):
        with pytest.raises(ValueError, match=r"not those that the run in .* was trained on \(400 of them\)"):
            Trainer.resume(saved, others)


@pytest.mark.parametrize("error", [OSError("No space left on device"), RuntimeError("PytorchStreamWriter failed")])
def test_a_write_that_fails_leaves_the_last_checkpoint(saved, tokens, monkeypatch, error):
    before = saved.read_bytes()

    def full(content, path):
        path.write_bytes(b"half")
        raise error

    run = Trainer.resume(saved, tokens, on="cpu", progress=False)
    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(OSError, match=r"could not be written to .*run\.pt .* an older checkpoint there is untouched"):
        run.run()
    assert saved.read_bytes() == before and [file.name for file in saved.parent.iterdir()] == ["run.pt"]
    assert run.step == 4  # and the model has what it learned


@pytest.mark.parametrize("every", [1, 100])
@pytest.mark.parametrize("rate", [1e9, 1e38])
def test_training_that_breaks_down_stops_and_the_good_file_stays(fresh, tokens, tmp_path, rate, every):
    """A rate of 1e9 gives NaN after a step or two, one of 1e38 weights that are infinite."""
    path = tmp_path / "run.pt"
    Trainer(fresh(), tokens, steps=9, checkpoint=path, **SMALL).run(3)
    good = path.read_bytes()
    run = Trainer.resume(path, tokens, on="cpu", progress=False)
    run.settings |= dict(learning_rate=rate, checkpoint_every=every)
    with pytest.raises(ValueError, match=r"training broke down after step \d: .*run\.pt is as it was"):
        run.run()
    assert path.read_bytes() == good


@pytest.mark.parametrize("part", ["whole", "blocks"])
def test_what_a_compiled_model_saves_can_be_resumed(fresh, tokens, tmp_path, part, bad_input):
    path, model = tmp_path / "run.pt", fresh()
    if part == "whole":
        model = torch.compile(model, backend="eager")
    else:
        model.blocks[1] = torch.compile(model.blocks[1], backend="eager")
    run = Trainer(model, tokens, steps=4, checkpoint=path, **SMALL)
    run.run(2)
    again = Trainer.resume(path, tokens, on="cpu", progress=False)
    assert again.run() == run.run()


def test_a_compiled_model_that_was_saved_by_its_own_names_is_resumed(saved, tokens):
    content = torch.load(saved)
    content["weights"] = {f"_orig_mod.{name}": weight for name, weight in content["weights"].items()}
    torch.save(content, saved)
    assert Trainer.resume(saved, tokens, on="cpu", progress=False).step == 2


def test_a_checkpoint_with_one_flipped_bit_is_refused_or_the_same(saved, tokens):
    whole, random = saved.read_bytes(), torch.Generator().manual_seed(torch.initial_seed())
    expected = Trainer.resume(saved, tokens, on="cpu", progress=False)
    refused = 0
    for _ in range(40):
        flipped = bytearray(whole)
        flipped[int(torch.randint(len(whole), (), generator=random))] ^= 1 << int(
            torch.randint(8, (), generator=random)
        )
        saved.write_bytes(flipped)
        try:
            found = Trainer.resume(saved, tokens, on="cpu", progress=False)
        except ValueError as error:
            assert "is damaged, or no checkpoint at all" in str(error) or "no checkpoint that a Trainer" in str(error)
            refused += 1
        else:  # the bit was in what fills the file up
            assert same(found.transformer, expected.transformer) and found.losses == expected.losses
    assert refused >= 20


def nan_weight(content):
    content["weights"]["final_norm.weight"][0] = float("nan")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["losses"].append(3.0),
        lambda content: content["losses"].pop(),
        lambda content: content.update(losses="abc"),
        lambda content: content.update(losses=[3.0, float("nan")]),
        lambda content: content["settings"].update(steps=1),
        lambda content: content["settings"].update(steps="4"),
        lambda content: content["settings"].update(colour="red"),
        lambda content: content["settings"].pop("seed"),
        lambda content: content.update(settings=None),
        lambda content: content["validation_losses"].append((1,)),
        lambda content: content["validation_losses"].append((1, float("nan"))),
        lambda content: content["config"].update(d_model=25),
        lambda content: content["config"].update(n_layers=10**12),
        lambda content: content["config"].update(depth=3),
        lambda content: content["weights"].pop("final_norm.weight"),
        lambda content: content["weights"].update({"final_norm.weight": torch.ones(3)}),
        lambda content: content.update(weights=[1, 2]),
        nan_weight,
        lambda content: content["optimizer"]["state"][0]["exp_avg"].fill_(float("inf")),
        lambda content: content["optimizer"]["state"][0].update(exp_avg=torch.zeros(2)),
        lambda content: content["optimizer"]["state"].clear(),
        lambda content: content.update(optimizer={}),
        lambda content: content.update(generator=torch.zeros(3)),
        lambda content: content.pop("generator"),
        lambda content: content.update(tokens=3),
        lambda content: content.pop("tokens"),
    ],
)
def test_handmade_parts_of_a_checkpoint_are_one_sentence(saved, tokens, change):
    content = torch.load(saved)
    change(content)
    torch.save(content, saved)
    with pytest.raises(ValueError, match=r"run\.pt") as caught:
        Trainer.resume(saved, tokens, on="cpu", progress=False).run()
    assert "\n" not in str(caught.value)


def test_ctrl_c_while_writing_leaves_the_last_file(tmp_path):
    path = tmp_path / "some"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as beside:
        beside.write_text("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["some"]


def test_saving_needs_a_place(fresh, tokens, tmp_path):
    run = Trainer(fresh(), tokens, steps=2, **SMALL)
    with pytest.raises(ValueError, match="path must say where to save"):
        run.save()
    run.save(tmp_path / "here.pt")
    assert Trainer.resume(tmp_path / "here.pt", tokens, on="cpu").step == 0


# ---- what makes no sense --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(accumulate=0), "accumulate must be at least 1, got 0"),
        (dict(accumulate=3), r"batch_size must be a multiple of accumulate × processes, 3 × 1, .* got 4"),
        (dict(checkpoint_every=0), "checkpoint_every must be at least 1"),
        (dict(validate_every=-1), "validate_every must be at least 1"),
        (dict(validation=torch.arange(5)), "take a longer text"),
        (dict(precision="half"), "precision must be 'auto', 'float32' or 'bfloat16', got 'half'"),
        (dict(begin_with=99), "begin_with must be a token of the text, with 10 more after it, and 99 is nowhere"),
    ],
)
def test_settings_that_make_no_sense(fresh, tokens, settings, message, bad_input):
    with pytest.raises(ValueError, match=message):
        Trainer(fresh(), tokens, steps=2, **(SMALL | settings))


# ---- several processes ----------------------------------------------------------------------------

# Both train for four steps, are made anew from the first one's file, and go on; one of them hears a Ctrl-C on the way.
SCRIPT = """
import json, signal, sys
import torch
from course_lib.config import TransformerConfig
from course_lib.training.processes import place, together
from course_lib.training.trainer import Trainer
from course_lib.transformer_block.transformer import Transformer

torch.set_num_threads(1)
file, shape, settings = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
def train(device):  # what it makes is gone when the processes part
    rank, processes = place()
    torch.manual_seed(rank)  # the first one's weights are everybody's
    tokens = torch.randint(50, (400,), generator=torch.Generator().manual_seed(1))
    run = Trainer(Transformer(TransformerConfig(**shape)).to(device), tokens, **settings, checkpoint=file)
    run.run(until=4)
    torch.distributed.barrier()  # the file is there
    run = Trainer.resume(file, tokens, on=device, progress=False)
    stopped = run.run(watch=lambda run: run.step == 6 and rank == 1 and signal.raise_signal(signal.SIGINT))
    losses = run.run()
    total = sum(parameter.double().sum().item() for parameter in run.transformer.parameters())
    # in one piece: the other one writes to the same place
    print(json.dumps([rank, len(stopped), losses, total]) + "\\n", end="")


with together() as device:
    train(device)
"""


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(tmp_path):
    shape = dict(vocab_size=50, context_length=40, d_model=24, n_layers=2, n_heads=4, n_kv_heads=2, d_head=6, d_ff=32)
    settings = dict(steps=8, batch_size=8, context_length=10, accumulate=2, precision="float32", progress=False)
    torch.manual_seed(0)
    alone = Transformer(TransformerConfig(**shape))
    one = Trainer(alone, torch.randint(50, (400,), generator=torch.Generator().manual_seed(1)), **settings).run()

    (tmp_path / "train.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, tmp_path / "train.py", tmp_path / "run.pt", json.dumps(shape), json.dumps(settings)],
        capture_output=True, text=True, timeout=900, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    both = sorted(json.loads(line) for line in done.stdout.splitlines())
    assert [(rank, stopped) for rank, stopped, *_ in both] == [(0, 6), (1, 6)]
    for _, _, losses, weight in both:
        assert losses == pytest.approx(one, abs=1e-5) and len(losses) == 8
        assert weight == pytest.approx(sum(p.double().sum().item() for p in alone.parameters()), abs=1e-3)


def test_torchrun_without_together_is_a_sentence(fresh, tokens, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"torchrun started 2 processes, .*: train inside of `with together"):
        Trainer(fresh(), tokens, steps=2, **SMALL)
