"""The Shakespeare script: its texts, what it writes, and the stored curve that lesson 11 shows."""

import pytest
import torch

from course_lib.text_worlds import shakespeare
from course_lib.training import shakespeare_run
from course_lib.training.trigram import bits_per_token, count, trigram


@pytest.fixture(scope="module")
def texts():
    return shakespeare_run.texts()


def test_the_held_out_play_is_held_out(texts):
    characters, training, held_out, tuning = texts
    assert "".join(characters[id] for id in held_out.tolist()) == shakespeare.works()["tempest"]
    assert "".join(characters[id] for id in tuning.tolist()) == shakespeare.works()["hamlet"]
    assert len(training) + len(held_out) + len(tuning) == sum(map(len, shakespeare.works().values()))
    assert "Prospero" not in "".join(characters[id] for id in training.tolist())
    assert len(characters) == 84


def test_the_stored_curve_is_of_this_script_and_beats_the_trigram(texts):
    curve = shakespeare_run.stored_curve()
    assert curve.bits[-1] < curve.trigram_bits - 0.3
    in_time = [bits for bits, seconds in zip(curve.bits, curve.processor_seconds, strict=True) if seconds < 90]
    assert in_time[-1] < curve.trigram_bits - 0.2  # 90 s of a single core are enough
    assert curve.steps[0] == 0 and curve.steps[-1] == shakespeare_run.STEPS
    assert len(curve.steps) == len(curve.bits) == len(curve.seconds) == len(curve.processor_seconds)
    assert curve.seconds == sorted(curve.seconds)
    assert 0.9e6 < curve.parameters < 1.1e6
    characters, training, held_out, _ = texts
    table = trigram(count(training, len(characters)), curve.trigram_discounts)
    assert bits_per_token(table, held_out) == pytest.approx(curve.trigram_bits, abs=1e-3)


def test_a_short_run_writes_its_curve(texts, monkeypatch, tmp_path, capsys):
    characters, training, held_out, tuning = texts
    monkeypatch.setattr(
        shakespeare_run, "texts", lambda: (characters, training[:50_000], held_out[:2000], tuning[:500])
    )
    monkeypatch.setattr(shakespeare_run, "BATCH", 2)
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    shakespeare_run.main(steps=3, curve=tmp_path / "curve.json")
    curve = shakespeare_run.stored_curve(tmp_path / "curve.json")
    assert curve.steps == [0, 1, 2, 3] and curve.bits[-1] < curve.bits[0] and len(curve.sample) == 127
    assert curve.machine["processes"] == 1 and curve.versions["torch"] == torch.__version__
    assert f"the trigram's {curve.trigram_bits:.2f}" in capsys.readouterr().out


def test_an_interrupted_run_writes_nothing(texts, monkeypatch, tmp_path):
    characters, training, held_out, tuning = texts
    monkeypatch.setattr(shakespeare_run, "texts", lambda: (characters, training[:9000], held_out[:500], tuning[:500]))
    monkeypatch.setattr(shakespeare_run, "BATCH", 2)
    monkeypatch.setattr(shakespeare_run.Trainer, "_one_step", lambda run: (_ for _ in ()).throw(KeyboardInterrupt))
    shakespeare_run.main(steps=3, curve=tmp_path / "curve.json")
    assert not (tmp_path / "curve.json").exists()
