"""What can be read of HTML in JupyterLab's two themes: each piece of text on what it stands on, by its inline styles.

Colors in <style>, in classes or in attributes would escape this: they are refused. So is what is no plain color.
"""

import re
import xml.etree.ElementTree as ET
from base64 import b64decode
from dataclasses import dataclass, replace
from html.parser import HTMLParser

from matplotlib.colors import to_hex, to_rgba

from course_lib.drawing.style import contrast

READABLE = 4.5  # WCAG 2, level AA
# JupyterLab 4: text with no color of its own, and what it stands on: the page, and every second row of a table
THEMES = [("#000000de", "#ffffff"), ("#000000de", "#f5f5f5"), ("#ffffffde", "#111111"), ("#ffffffde", "#212121")]
EMBEDDED_SVG = re.compile(r'src="data:image/svg\+xml;base64,([^"]+)"')
INLINE_SVG = re.compile(r"<svg.*?</svg>", re.DOTALL)


def faint(html: str) -> list[str]:
    """Each text whose contrast is below 4.5 : 1 in one of the themes, and how low it is."""
    svgs = [b64decode(data).decode() for data in EMBEDDED_SVG.findall(html)] + INLINE_SVG.findall(html)
    reader = _Reader()
    reader.feed(INLINE_SVG.sub("", html))
    pieces = reader.pieces + [piece for svg in svgs for piece in _pieces_of(ET.fromstring(svg))]
    return [f"{text!r} {look}" for text, look in pieces if look.contrast < READABLE]


@dataclass(frozen=True)
class Look:
    """The color of text, what it stands on, and the opacities around it, each with what shows through."""

    color: str
    ground: str
    veils: tuple[tuple[float, str], ...] = ()

    def styled(self, style: dict[str, str]) -> list["Look"]:
        """This look inside an element with that style: several where the ground is a gradient."""
        background = style.get("background-color", style.get("background", "none"))
        veils = self.veils + (((float(style["opacity"]), self.ground),) if "opacity" in style else ())
        return [
            replace(self, color=style.get("color", self.color), ground=_over(ground, self.ground), veils=veils)
            for ground in re.findall(r"#\w+", background) or [background]
        ]

    @property
    def contrast(self) -> float:
        color, ground = _over(self.color, self.ground), self.ground
        for opacity, behind in reversed(self.veils):
            color, ground = _over(color, behind, opacity), _over(ground, behind, opacity)
        return contrast(color, ground)

    def __str__(self) -> str:
        return f"{self.color} on {self.ground}: {self.contrast:.2f}"


def _over(color: str, ground: str, opacity: float = 1.0) -> str:
    *upper, alpha = to_rgba(color)
    share = alpha * opacity
    return to_hex([share * a + (1 - share) * b for a, b in zip(upper, to_rgba(ground), strict=False)])


class _Reader(HTMLParser):
    VOID = ("br", "hr", "img", "input", "wbr")

    def __init__(self):
        super().__init__()
        self.looks = [[Look(*theme) for theme in THEMES]]
        self.pieces: list[tuple[str, Look]] = []

    def handle_starttag(self, tag, attributes):
        refused = {tag} & {"style", "font"} | {name for name, _ in attributes} & {"class", "color", "bgcolor"}
        assert not refused, f"color comes in style attributes, not in {refused}: {self.get_starttag_text()}"
        style = dict(attributes).get("style") or ""
        declared = dict(map(str.strip, part.split(":", 1)) for part in style.split(";") if part.strip())
        if tag not in self.VOID:
            self.looks.append([inner for look in self.looks[-1] for inner in look.styled(declared)])

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            self.looks.pop()

    def handle_data(self, data):
        if data.strip():
            self.pieces += [(data.strip(), look) for look in self.looks[-1]]


def _pieces_of(svg: ET.Element) -> list[tuple[str, Look]]:
    """Each text of a drawing on the last rectangle below it. Known: <rect> and <text> with plain fills."""
    rects, pieces = [], []
    for part in svg.iter():
        assert not {"transform", "opacity", "class", "style"} & set(part.attrib) or part is svg, part.attrib
        kind = part.tag.rpartition("}")[2]
        if kind == "rect" and part.get("fill") != "none":
            rects.append(part)
        if kind == "text":
            # a point inside its letters
            toward = {"middle": 0, "end": -1}.get(part.get("text-anchor"), 1)
            size = float(part.get("font-size"))
            point = {"x": float(part.get("x")) + toward * size / 2, "y": float(part.get("y")) - size / 3}
            below = [rect.get("fill") for rect in rects if _covers(rect, point)][-1:]
            for _, page in THEMES:
                ground = _over(*below, page) if below else page
                pieces.append((part.text, Look(part.get("fill", "#000000"), ground)))
    return pieces


def _covers(rect: ET.Element, point: dict[str, float]) -> bool:
    sides = {"x": "width", "y": "height"}
    starts = {axis: float(rect.get(axis, 0)) for axis in sides}
    return all(start <= point[axis] <= start + float(rect.get(sides[axis])) for axis, start in starts.items())
