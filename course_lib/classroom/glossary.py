"""The words of the course, each with the lesson that explains it: docs/glossary.md, and a copy in the workspace."""

import tomllib
from pathlib import Path

from course_lib.classroom.location import LESSONS, ROOT
from course_lib.classroom.workspace import key_of, lesson_names

SOURCE = Path(__file__).with_suffix(".toml")
PAGE = ROOT / "docs/glossary.md"


def terms() -> dict[str, tuple[str, str]]:
    """Term → (lesson, meaning), in alphabetical order."""
    table = tomllib.loads(SOURCE.read_text("utf-8"))
    return {term: tuple(table[term]) for term in sorted(table, key=str.casefold)}


def glossary(lessons: str, only_there: Path = LESSONS) -> str:
    """The page as Markdown; `lessons` is the way from the page to the lessons' folder, "../notebooks/" or ""."""
    where = {key_of(only_there / name): name for name in lesson_names(only_there)}
    lines = ["# Glossary", "", "Each word, and the lesson that explains it.", ""]
    for term, (lesson, meaning) in terms().items():
        link = f" ([{lesson}]({lessons}{where[lesson]}))" if lesson in where else ""
        lines.append(f"- **{term}**: {meaning}{link}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(glossary("../notebooks/"), "utf-8")
