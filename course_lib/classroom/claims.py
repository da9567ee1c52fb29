"""Popular claims and what came of testing them: each lesson's claim cell ends in a `verdict`."""

from dataclasses import dataclass
from html import escape

from course_lib.arguments import one_of, text
from course_lib.drawing.style import on_ground

VERDICTS = ("holds", "holds, but…", "does not hold")
_COLOURS = dict(zip(VERDICTS, ("#1b7f3b", "#9a6700", "#b3261e"), strict=True))


@dataclass(frozen=True)
class Verdict:
    """A claim, whether it holds, and the number that decided it. A notebook shows it as a box, a terminal as text."""

    claim: str
    verdict: str
    because: str

    def __repr__(self) -> str:
        return f"Claim:   “{self.claim}”\nVerdict: {self.verdict}\nBecause: {self.because}"

    def _repr_html_(self) -> str:
        colour = _COLOURS[self.verdict]
        return (
            f'<div style="border-left: 6px solid {colour}; padding: 4px 14px; max-width: 46em">'
            f"<div>Claim: “{escape(self.claim)}”</div>"
            f'<div><b style="{on_ground(colour)}; padding: 1px 6px">{self.verdict}</b></div>'
            f"<div>{escape(self.because)}</div></div>"
        )


def verdict(claim: str, verdict: str, because: str) -> Verdict:
    """What the last line of a claim cell (tagged `claim`) shows; `docs/claims.md` is made from these.

    Args:
        claim: the claim, in the words that one hears.
        verdict: "holds", "holds, but…" or "does not hold".
        because: one sentence with the number that decided it, put in from what the lesson measured.

    Raises:
        ValueError: the verdict is none of the three, or a text is empty.
    """
    one_of("verdict", verdict, VERDICTS)
    text("claim", claim), text("because", because)
    if not claim.strip() or not because.strip():
        raise ValueError("a verdict needs the claim and the number that decided it: one of the two is empty")
    return Verdict(claim, verdict, because)
