"""`python -m course_lib …`: one function a command, each importing what it needs."""

from __future__ import annotations

import sys
from typing import Annotated

try:
    import typer
except ImportError:  # the doctor must still be able to say so
    typer = None


def doctor() -> None:
    """Say what is missing or wrong on this machine, and what to do about it."""
    from course_lib.doctor import run

    raise SystemExit(run())


def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Files or groups; all of them where none is named.")] = None,
) -> None:
    """Fetch the files that the lessons read (the model, vocabularies, texts) into data/."""
    from course_lib import assets

    files = assets.fetch(names or None)
    size = sum(file.stat().st_size for file in files)
    print(f"{len(files)} files ({size / 1e6:.0f} MB) present and verified in {assets.data_folder()}")


COMMANDS = (doctor, fetch)


def main() -> None:
    """Run one command. An error is shown as its one sentence, with exit status 1."""
    if typer is None:
        if sys.argv[1:] == ["doctor"]:
            doctor()
        sys.exit("typer is not installed: run `pip install -r requirements.txt` first")
    app = typer.Typer(no_args_is_help=True, add_completion=False, help="From prompt to response.")
    for command in COMMANDS:
        app.command()(command)
    try:
        app()
    except (RuntimeError, ValueError, OSError) as error:
        from rich.console import Console

        console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        console.print(str(error), style="bold red")
        sys.exit(1)


if __name__ == "__main__":
    main()
