"""The claim ledger: every claim that the lessons put to the test, in `docs/claims.md` and in the README.

`make claims` (or `python -m course_lib.classroom.ledger`) makes both from the outputs that are stored in the lessons.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from course_lib.classroom.claims import VERDICTS
from course_lib.classroom.location import LESSONS
from course_lib.classroom.workspace import key_of, lesson_names
from course_lib.files import write_atomically

PAGE, README = LESSONS.parent / "docs/claims.md", LESSONS.parent / "README.md"
BEGIN, END = "<!-- claims: made by `make claims` -->", "<!-- end of claims -->"
VERDICT = re.compile(r"Claim: +“(?P<claim>.+)”\nVerdict: (?P<verdict>.+)\nBecause: (?P<because>.+)", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """A claim, as the lesson at `path` (from the repository's root) decided it."""

    claim: str
    verdict: str
    because: str
    path: str
    lesson: str  # its key


def entries(folder: Path = LESSONS) -> list[Entry]:
    """All claims with their verdicts, in the order of the lessons.

    Raises:
        ValueError: a claim cell shows no verdict, or the verdict is none of the three.
    """
    lessons = sorted(lesson_names(folder), key=lambda name: Path(name).name)
    return [entry for name in lessons for entry in _of_lesson(folder, name)]


def _of_lesson(folder: Path, name) -> Iterator[Entry]:
    key = key_of(folder / name)
    for cell in json.loads((folder / name).read_text("utf-8"))["cells"]:
        if "claim" not in cell["metadata"].get("tags", []):
            continue
        said = ["".join(output["data"]["text/plain"]) for output in cell["outputs"] if "data" in output]
        found = VERDICT.fullmatch(said[-1]) if said else None
        if found is None or found["verdict"] not in VERDICTS:
            raise ValueError(f"{name}, cell {cell.get('id')}: a claim cell must end in verdict(…), and be run")
        path = (Path(folder.name) / name).as_posix()
        yield Entry(found["claim"].rstrip("."), found["verdict"], found["because"].rstrip("."), path, key)


def table(found: list[Entry], up: str = "") -> str:
    """A Markdown table; `up` leads from the page to the repository's root."""
    rows = ["| claim | lesson | verdict | the number that decided it |", "| --- | --- | --- | --- |"]
    for one in found:
        claim, because = (text.replace("|", "\\|").replace("\n", " ") for text in (one.claim, one.because))
        claim, because = claim[0].upper() + claim[1:], because[0].upper() + because[1:]
        rows.append(f"| {claim} | [{one.lesson}]({up}{one.path}) | **{one.verdict}** | {because} |")
    return "\n".join(rows)


def page(found: list[Entry]) -> str:
    """`docs/claims.md`."""
    counts = ", ".join(f"{sum(one.verdict == verdict for one in found)} {verdict}" for verdict in VERDICTS)
    return f"""# Claims, put to the test

Sentences that one reads about language models, and what came of measuring them. Each is decided in a lesson, by numbers
that the lesson calculates, on the models that it names. A verdict is no wider than that.

{len(found)} claims: {counts}.

{table(found, "../")}

This page is made from the lessons' outputs by `make claims`.
"""


def with_table(readme: str, found: list[Entry]) -> str:
    """The README with a new table between its two markers.

    Raises:
        ValueError: it does not have each of them once, in their order.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"README.md must hold {BEGIN!r} and after it {END!r}, each once")
    return f"{before}{BEGIN}\n{table(found)}\n{END}{after}"


if __name__ == "__main__":
    found = entries()
    write_atomically(PAGE, page(found))
    write_atomically(README, with_table(README.read_text("utf-8"), found))
    print(f"{len(found)} claims in {PAGE.name} and {README.name}")
