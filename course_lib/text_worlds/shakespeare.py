"""Shakespeare's works as text: real English, 5 million characters, every one of them ASCII.

The texts are Project Gutenberg's, as packed in the Python package `shakespeare` (data/README.md). A play starts with
its title and its list of persons; names of speakers and stage directions are part of the text.
"""

import difflib
from collections.abc import Collection

from course_lib import assets
from course_lib.arguments import instance, several


def works() -> dict[str, str]:
    """Name → text of each of the 42 works, in alphabetical order: "hamlet", "tempest", "sonnets", …"""
    return {path.stem: path.read_text(encoding="utf-8") for path in assets.paths("shakespeare")}


def text(without: Collection[str] = ()) -> str:
    """All works as one text, but for those held out: `text(without=["tempest"])`.

    Raises ValueError for a name that is none of a work.
    """
    names = [without] if isinstance(without, str) else several("without", without, "a list of names", unordered=True)
    every = works()
    for name in dict.fromkeys(instance("each name in without", name, str) for name in names):
        if name not in every:
            close = difflib.get_close_matches(name, every, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"the names are {', '.join(every)}"
            raise ValueError(f"without must name works of Shakespeare, got {name!r}: {hint}")
        del every[name]
    return "".join(every.values())
