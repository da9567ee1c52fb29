"""The palette can be read by everyone, and `show` leaves what a notebook needs."""

import base64
import io
import itertools
import struct
import subprocess
import sys

import matplotlib
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient
from PIL import Image

from course_lib.drawing import style

# What readers without green or without red receptors see of linear RGB (Machado et al. 2009, severity 1)
FULL = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
RGB_TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def lab(colour: str, vision=FULL) -> np.ndarray:
    """CIELAB of a '#rrggbb' colour as this kind of vision sees it."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = RGB_TO_XYZ @ np.clip(np.asarray(vision) @ linear, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def simple_figure() -> Figure:
    figure = Figure(figsize=(5, 3))
    figure.add_subplot().plot([1, 3, 2])
    return figure


def test_contrast_is_wcags():
    assert style.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert style.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert style.contrast("#123456", "#123456") == 1


@pytest.mark.parametrize("phase", style.PHASES.values(), ids=lambda phase: phase.name)
def test_text_reads_on_every_ground(phase):
    assert style.contrast(style.PAPER, phase.strong) >= 4.5
    for ground in (phase.pale, style.PAPER):
        for ink in (phase.strong, style.INK, style.MUTED):
            assert style.contrast(ink, ground) >= 4.5


@pytest.mark.parametrize("vision", [FULL, DEUTERANOPIA, PROTANOPIA], ids=["full", "deuteranopia", "protanopia"])
@pytest.mark.parametrize("tone", ["strong", "medium"])
def test_phases_stay_apart_without_red_green_vision(tone, vision):
    for a, b in itertools.combinations(style.PHASES.values(), 2):
        distance = np.linalg.norm(lab(getattr(a, tone), vision) - lab(getattr(b, tone), vision))
        assert distance > 18, (a.name, b.name)


def test_green_and_red_differ_in_lightness():
    for tone in ("strong", "medium"):
        green, red = (lab(getattr(style.PHASES[n], tone))[0] for n in (1, 2))
        assert green - red > 10


def test_text_on_any_cell_of_a_heat_map_reads():
    for number in style.PHASES:
        for cmap in (style.sequential(number), style.diverging(number)):
            for value in np.linspace(0, 1, 101):
                ground = matplotlib.colors.to_hex(cmap(value))
                assert style.contrast(style.text_on(ground), ground) >= 4.5


def test_sequential_maps_darken_steadily_from_white_to_strong():
    for number, phase in style.PHASES.items():
        hexes = [matplotlib.colors.to_hex(style.sequential(number)(v)) for v in np.linspace(0, 1, 65)]
        assert (hexes[0], hexes[-1]) == (style.PAPER, phase.strong)
        assert (np.diff([lab(h)[0] for h in hexes]) < 0).all()


def test_unknown_phase_is_named():
    with pytest.raises(ValueError, match="phase must be 1, 2, 3 or 4, got 5"):
        style.sequential(5)


def test_the_style_sets_the_look_and_leaves_no_trace():
    with matplotlib.rc_context():
        matplotlib.rcParams["axes.grid"] = True
        before = dict(matplotlib.rcParams)
        with style.course_style():
            assert not matplotlib.rcParams["axes.grid"]
            assert matplotlib.rcParams["font.family"] == ["DejaVu Sans"]
            assert matplotlib.rcParams["axes.prop_cycle"].by_key()["color"][0] == style.PHASES[1].strong
        assert dict(matplotlib.rcParams) == before


def test_importing_the_palette_and_the_map_does_not_load_matplotlib():
    code = "import sys, course_lib.drawing.journey; sys.exit('matplotlib' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_png_is_reproducible_sharp_and_says_nothing_of_its_maker():
    one, two = style.png(simple_figure()), style.png(simple_figure())
    assert one == two
    assert struct.unpack(">II", one[16:24]) == (5 * 192, 3 * 192)
    for chunk in (b"tEXt", b"iTXt", b"tIME"):
        assert chunk not in one


def test_png_keeps_the_paper_white_and_the_colours_true():
    figure = Figure(figsize=(2, 2))
    for i, phase in enumerate(style.PHASES.values()):
        figure.add_axes((0.25 * i, 0, 0.25, 0.5), facecolor=phase.strong).set_axis_off()
        figure.axes[-1].axvspan(0, 1, color=phase.strong)
    picture = Image.open(io.BytesIO(style.png(figure))).convert("RGB")
    assert picture.getpixel((20, 20)) == (255, 255, 255)
    for i, phase in enumerate(style.PHASES.values()):
        seen = picture.getpixel((48 + 96 * i, 300))
        wanted = tuple(int(phase.strong[k : k + 2], 16) for k in (1, 3, 5))
        assert np.abs(np.subtract(seen, wanted)).max() <= 4


@pytest.mark.parametrize("alt", ["", "  \n", None])
def test_a_figure_without_alt_text_is_refused(alt):
    with pytest.raises(ValueError, match="alt must be a sentence that says what the figure shows"):
        style.show(simple_figure(), alt)


def test_what_show_leaves_in_a_notebook():
    cell = """
import matplotlib.pyplot as plt
from course_lib.drawing.style import course_style, show
with course_style():
    figure, axes = plt.subplots(figsize=(5, 3))
axes.plot([1, 3, 2])
assert show(figure, "A line that rises, then falls.") is None
assert plt.get_fignums() == []
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    NotebookClient(notebook, kernel_name="python3", timeout=900).execute()
    (output,) = notebook.cells[0].outputs  # one, not a second copy from the inline backend
    assert output.data["text/plain"] == "A line that rises, then falls."
    assert output.metadata["image/png"] == {"alt": "A line that rises, then falls.", "width": 480}
    assert base64.b64decode(output.data["image/png"]).startswith(b"\x89PNG")
