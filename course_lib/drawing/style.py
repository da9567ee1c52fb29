"""The course's look: one palette, one matplotlib style, one way to show a figure.

Four phases, four colours, in every banner, plot and widget: 1 input processing is green,
2 transformer block red, 3 prediction and generation blue, 4 production purple. Green and red also
differ in lightness, so that they stay apart for readers who cannot tell the hues apart.
"""

# matplotlib and IPython are imported where they are used: the palette alone (the journey map,
# the progress page) must not cost half a second.

import base64
import io
from dataclasses import dataclass

INK = "#1f2933"  # text
MUTED = "#5a6672"  # secondary text, axes
LINE = "#c9d0d8"  # hairlines
PAPER = "#ffffff"

CSS_PIXELS_PER_INCH = 96
SHARPNESS = 2  # PNG pixels per CSS pixel
LIVE_SHARPNESS = 1.5  # of a picture that follows a slider: it is made in a moment


@dataclass(frozen=True)
class Phase:
    """One phase of the journey: `strong` takes white text, `pale` takes `strong` or ink text."""

    number: int
    name: str
    strong: str
    medium: str
    pale: str

    @property
    def heading(self) -> str:
        return f"{self.number} · {self.name}"


PHASES = {
    1: Phase(1, "Input processing", "#0b7a5a", "#7fcbae", "#e6f5ee"),
    2: Phase(2, "Transformer block", "#9f1529", "#cf666c", "#fcebea"),
    3: Phase(3, "Prediction and generation", "#1565c0", "#84b6ec", "#e8f1fc"),
    4: Phase(4, "Production", "#4f2382", "#8b6cbd", "#f1ebf9"),
}

STYLE = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "font.size": 10,
    "text.color": INK,
    "figure.figsize": (7.5, 4.0),
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "savefig.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "image.interpolation": "nearest",
    "image.aspect": "auto",
}


def phase(number: int) -> Phase:
    """The phase with this number, 1 to 4; ValueError for any other."""
    if number not in PHASES:
        raise ValueError(f"phase must be 1, 2, 3 or 4, got {number!r}")
    return PHASES[number]


def course_style():
    """The course's look inside a `with` block or as a decorator, whatever the reader's own settings."""
    from matplotlib import style

    return style.context(_layers())


def _layers() -> list:
    from cycler import cycler

    colours = cycler(color=[p.strong for p in PHASES.values()])
    return ["default", {**STYLE, "axes.prop_cycle": colours}]


def sequential(number: int):
    """Colormap of a phase for amounts from 0 up: white, through its tones, to strong."""
    from matplotlib.colors import LinearSegmentedColormap

    p = phase(number)
    tones = [(0, PAPER), (0.12, p.pale), (0.5, p.medium), (1, p.strong)]
    return LinearSegmentedColormap.from_list(f"phase_{number}", tones)


def diverging(number: int):
    """Colormap of a phase for signed values: grey below zero, white at zero, the phase above."""
    from matplotlib.colors import LinearSegmentedColormap

    p = phase(number)
    return LinearSegmentedColormap.from_list(
        f"phase_{number}_signed", ["#3d4854", "#a9b2bc", PAPER, p.medium, p.strong]
    )


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two '#rrggbb' colours, from 1 (equal) to 21 (black on white)."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def text_on(background: str) -> str:
    """White or black, whichever reads better on a '#rrggbb' background: at least 4.5:1 on any."""
    return max(PAPER, "#000000", key=lambda ink: contrast(ink, background))


def on_ground(ground: str) -> str:
    """CSS for text on a '#rrggbb' ground of its own, which reads in a light theme and in a dark one.

    All other text in HTML goes without a color: it takes the theme's.
    """
    return f"background: {ground}; color: {text_on(ground)}"


def png(figure) -> bytes:
    """The figure as PNG, twice as sharp as it is shown; equal figures give equal bytes."""
    from PIL import Image

    buffer, dpi = io.BytesIO(), SHARPNESS * CSS_PIXELS_PER_INCH
    figure.savefig(buffer, format="rgba", dpi=dpi)  # the pixels as they are: a PNG would only be unpacked again
    size = tuple(int(inches * dpi) for inches in figure.get_size_inches())
    # 256 colours make a third of the bytes; of the methods, this one moves no colour visibly
    picture = Image.frombuffer("RGBA", size, buffer.getvalue()).convert("RGB")
    picture = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small = io.BytesIO()
    picture.save(small, format="png", optimize=True)
    return small.getvalue()


def live_png(figure) -> bytes:
    """The figure as PNG, made quickly, for a widget; equal figures give equal bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # by the canvas itself: savefig at another dpi leaves the axes of a figure that was drawn before in disorder
    figure.set_dpi(LIVE_SHARPNESS * CSS_PIXELS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas_png(canvas)


def canvas_png(canvas) -> bytes:
    """What is drawn on the canvas as PNG, made quickly."""
    from PIL import Image

    picture = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


def show(figure, alt: str) -> None:
    """Show a matplotlib figure below the cell, with `alt` as its text equivalent, and close it.

    The output holds the PNG with its width on screen (96 CSS pixels per inch) and the alt text as
    metadata, and the alt text again as text/plain. Raises ValueError where `alt` is empty.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(
            f"alt must be a sentence that says what the figure shows, got {alt!r}: "
            "a reader who cannot see the figure gets this text"
        )
    import matplotlib.pyplot as plt
    from IPython.display import display

    data = base64.b64encode(png(figure)).decode("ascii")
    width = round(figure.get_figwidth() * CSS_PIXELS_PER_INCH)
    plt.close(figure)  # else the inline backend shows a second copy
    display(
        {"image/png": data, "text/plain": alt},
        metadata={"image/png": {"alt": alt, "width": width}},
        raw=True,
    )
