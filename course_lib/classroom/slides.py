"""Lessons as slides: one page a lesson, whole in one file, so that it opens in any browser without a network.

The slides are the lesson's own cells. A heading begins a slide; what stands on it is its first paragraph, its lists and
its tables, and the rest of the prose becomes speaker notes (key S). Code comes with its output, a figure or a verdict
without the code that draws it, an exercise with its blank. A cell that carries one of Jupyter's own slide types
(Property Inspector > Slide Type) is shown as that says, and so can be taken out of these rules.
"""

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from course_lib import assets
from course_lib.classroom.location import LESSONS, ROOT
from course_lib.classroom.workspace import key_of, lesson_names
from course_lib.drawing.journey import on_the_map
from course_lib.drawing.style import PHASES
from course_lib.lessons import course

WIDTH, HEIGHT = 1280, 720
MOST_TEXT, MOST_LAID_OUT = 480, 700  # characters on one slide: of running text, of lists and tables
MOST_LINES, FEW_LINES = 22, 4  # of code and printed output together; of output that stays with its code
OUTPUT_ALONE = ("output-alone",)
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION\n?", re.DOTALL | re.MULTILINE)
MATH = re.compile(r"(?<![\\$])\$([^$\n]+)\$")


def make_slides(lesson: Path, folder: Path = ROOT / "build/slides") -> Path:
    """Write a lesson's slides; the page's path.

    Raises:
        AssetError: reveal.js is not on disk, and cannot be fetched.
    """
    page = folder / f"{lesson.stem}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(as_page(as_slides(nbformat.read(lesson, 4)), lesson.stem), "utf-8")
    return page


def make_all(folder: Path = ROOT / "build/slides") -> list[Path]:
    """The slides of every lesson, not of the homework."""
    return [make_slides(LESSONS / name, folder) for name in lesson_names() if on_the_map(key_of(LESSONS / name))]


def as_slides(notebook: NotebookNode) -> NotebookNode:
    """The lesson with a slide type for every cell, long cells cut up, solutions blank."""
    cells = []
    for cell in notebook.cells:
        if cell.metadata.get("slideshow", {}).get("slide_type"):
            cells.append(cell)
        elif cell.cell_type == "markdown":
            cells += _of_text(cell.source)
        else:
            cells += _of_code(cell)
    slides = nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)
    for number, cell in enumerate(slides.cells):
        cell.id = f"slide-{number}"
        for output in cell.get("outputs", []):
            _with_alt_text(output)
        if cell.cell_type == "markdown":
            cell.source = MATH.sub(lambda found: drawn(found[1]), cell.source)
    return slides


def _of_text(source: str) -> Iterator[NotebookNode]:
    """Slides for the headings, with the first paragraph, lists and tables below each; notes for the rest."""
    for heading, blocks in _sections(source):
        shown, notes, room = [], [], MOST_LAID_OUT
        for number, block in enumerate(blocks if heading else ()):
            if number == 0:
                block, rest = _first_sentences(block, MOST_TEXT)
                shown.append(block)
                notes += [rest] if rest else []
            elif _is_laid_out(block) and len(block) <= room:
                shown.append(block)
                room -= len(block)
            else:
                notes.append(block)
        notes = notes if heading else blocks
        if heading:
            deep = heading.startswith("###") or not heading.startswith("#")
            yield _typed(new_markdown_cell("\n\n".join([heading, *shown])), "subslide" if deep else "slide")
        if notes:
            yield _typed(new_markdown_cell("\n\n".join(notes)), "notes")


def _sections(source: str) -> Iterator[tuple[str, list[str]]]:
    """(heading, the blocks below it); the text before the first heading has none."""
    heading, blocks = "", []
    for block in re.split(r"\n\s*\n", source.strip()):
        lines = [line for line in block.splitlines() if line.strip() != "---"]
        while lines and lines[0].startswith("#"):
            if heading or blocks:
                yield heading, blocks
            heading, blocks, lines = lines[0], [], lines[1:]
        if lines:
            blocks.append("\n".join(lines))
    if heading or blocks:
        yield heading, blocks


def _is_laid_out(block: str) -> bool:
    return bool(re.match(r"\s*([*+-] |\d+\. |\||```|>)", block))


def _first_sentences(block: str, room: int) -> tuple[str, str]:
    if len(block) <= room or _is_laid_out(block):
        return block, ""
    ends = [found.end() for found in re.finditer(r"[.?!:][*_”\")]*\s", block) if found.end() <= room]
    return (block[: ends[-1]].rstrip(), block[ends[-1] :]) if ends else (block, "")


def _of_code(cell: NotebookNode) -> Iterator[NotebookNode]:
    """Nothing for marks and checks; the output alone for pictures and verdicts; else the code, and what it printed."""
    tags, role = cell.metadata.get("tags", []), cell.metadata.get("nbgrader", {})
    if role.get("grade") or re.search(r"^(check|hint)\(", cell.source, re.MULTILINE):
        return
    cell.source = SOLUTION.sub(r"\1...\n", cell.source).rstrip()
    printed = sum(map(_lines, cell.outputs))
    pictures = any("image/png" in output.get("data", {}) for output in cell.outputs)
    if "banner" in tags:
        yield _typed(cell, "-", OUTPUT_ALONE)
    elif "claim" in tags or pictures:
        yield _typed(cell, "subslide", OUTPUT_ALONE)
    elif cell.source.count("\n") + printed > MOST_LINES and printed > FEW_LINES:
        yield _typed(nbformat.v4.new_code_cell(cell.source), "subslide")
        yield _typed(cell, "subslide", OUTPUT_ALONE)
    else:
        yield _typed(cell, "subslide")


def _with_alt_text(output: NotebookNode) -> None:
    """A picture as an <img> with the text that the lesson gives it, which nbconvert leaves out."""
    if picture := output.get("data", {}).pop("image/png", None):
        alt = quoteattr(output.metadata.get("image/png", {}).get("alt", ""))
        output.data["text/html"] = f'<img class="figure" alt={alt} src="data:image/png;base64,{picture.strip()}">'


def _lines(output: NotebookNode) -> int:
    text = output.get("text") or output.get("data", {}).get("text/plain", "")
    return text.count("\n") + 1


def _typed(cell: NotebookNode, kind: str, tags: tuple[str, ...] = ()) -> NotebookNode:
    typed = nbformat.from_dict(cell)
    typed.metadata = nbformat.from_dict({"slideshow": {"slide_type": kind}, "tags": list(tags)})
    return typed


def drawn(formula: str) -> str:
    """A formula as a picture, since what sets formulas in a notebook comes over the network."""
    from matplotlib.mathtext import math_to_image

    file = io.BytesIO()
    math_to_image(f"${formula}$", file, format="svg", dpi=100)
    source = base64.b64encode(file.getvalue()).decode()
    return f'<img class="formula" alt="{formula}" src="data:image/svg+xml;base64,{source}">'


def as_page(slides: NotebookNode, name: str) -> str:
    """The slides as one HTML page, reveal.js and all."""
    from nbconvert import SlidesExporter
    from traitlets.config import Config

    script, style, notes = (path.read_text("utf-8") for path in assets.paths("slides"))
    lesson = course().get(slides.metadata.get("course", {}).get("lesson"))
    phase = PHASES[(lesson.phase if lesson else 0) or 1]  # the whole journey and homework are in the first one's color
    config = Config(TagRemovePreprocessor={"enabled": True, "remove_input_tags": set(OUTPUT_ALONE)})
    exporter = SlidesExporter(
        config=config,
        raw_template=TEMPLATE,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=True,
    )
    page, _ = exporter.from_notebook_node(slides, resources={"metadata": {"name": name}})
    page = re.sub(r"<link [^>]*unpkg[^>]*>", "", page)  # its styles are in the page already
    for mark, content in (("REVEAL_STYLE", style + LOOK.replace("PHASE", phase.strong)), ("REVEAL_SCRIPT", script)):
        page = page.replace(f"/*{mark}*/", content)
    return page.replace("/*NOTES_SCRIPT*/", notes).replace("/*START_SCRIPT*/", START)


TEMPLATE = """\
{%- extends 'index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_css -%}<style>/*REVEAL_STYLE*/</style>{%- endblock -%}
{%- block footer_js -%}
<script>/*REVEAL_SCRIPT*/</script>
<script>/*NOTES_SCRIPT*/</script>
<script>/*START_SCRIPT*/</script>
{%- endblock -%}
"""
LOOK = """
body, .reveal { font-family: system-ui, sans-serif; background: #fff; color: #1c2430; }
.reveal .slides { text-align: left; }
.reveal h1, .reveal h2, .reveal h3 { color: PHASE; font-weight: 700; line-height: 1.15; margin: 0 0 .5em; }
.reveal h1 { font-size: 52px; } .reveal h2 { font-size: 40px; } .reveal h3 { font-size: 32px; }
.reveal .jp-RenderedHTMLCommon { font-size: 27px; line-height: 1.4; }
.reveal .jp-RenderedHTMLCommon table { font-size: 21px; margin: 0; }
.reveal .jp-RenderedHTMLCommon code, .reveal pre { font-size: 19px; line-height: 1.35; }
.reveal img.figure { width: 1150px; max-width: none; height: 600px; object-fit: contain; }
.reveal .jp-Cell { padding: 6px 0; }
.reveal .jp-OutputArea-output { overflow: visible; }
.reveal img.formula { display: inline; height: 1.2em; margin: 0; vertical-align: middle; }
.reveal aside.notes { display: none; }
.reveal.measured .slides section { display: block !important; }
"""
# Each slide is made as much smaller as it must be to fit; tests hold the smallest readable.
START = """
const WIDTH = 1280, HEIGHT = 720, EDGE = 30;
const leaves = [...document.querySelectorAll(".slides section")].filter(one => !one.querySelector("section"));
const boxes = leaves.map(leaf => {
  const box = document.createElement("div");
  box.className = "fit";
  [...leaf.children].filter(child => child.tagName !== "ASIDE").forEach(child => box.append(child));
  leaf.prepend(box);
  return box;
});
Reveal.initialize({
  width: WIDTH, height: HEIGHT, margin: 0.02, center: true, hash: true, slideNumber: "c/t", transition: "none",
  plugins: [RevealNotes],
}).then(() => {
  const whole = document.querySelector(".reveal");
  whole.classList.add("measured");
  for (const box of boxes) {
    const size = Math.min(1, (HEIGHT - EDGE) / box.scrollHeight, (WIDTH - EDGE) / box.scrollWidth);
    box.style.zoom = size;
    box.dataset.size = size;
  }
  whole.classList.remove("measured");
  Reveal.layout();
});
"""
