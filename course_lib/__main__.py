"""`python -m course_lib …`: one function a command, each importing what it needs."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated

try:
    import typer
except ImportError:  # the doctor must still be able to say so
    typer = None

DEFAULT = "smollm2-135m"
Model = Annotated[str, typer and typer.Option(help="A model's name, a .gguf file, or a Hugging Face folder.")]


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


def workspace() -> None:
    """Make your own copy of the lessons, or bring it up to date. What you have edited is never overwritten."""
    from course_lib.classroom import my_llm
    from course_lib.classroom.location import copy_folder
    from course_lib.classroom.start_page import write_start_page
    from course_lib.classroom.workspace import copy_lessons

    for file, what, cells in copy_lessons():
        print(f"{file}: {what}")
        for cell in cells:
            print(f"    {cell}")
    for sentence in my_llm.after_update(copy_folder()):
        print(sentence)
    write_start_page()
    print(f"Your copy of the lessons is up to date in {copy_folder()}")


def catch_up(
    lesson: Annotated[
        str, typer and typer.Argument(help="Its number, such as 07: the lessons before it are filled in.")
    ],
) -> None:
    """Fill the exercises before a lesson in with the course's own versions, for whoever has fallen behind."""
    from course_lib.classroom.catch_up import catch_up as fill_in
    from course_lib.classroom.start_page import write_start_page

    workspace()
    for file, names in fill_in(lesson):
        print(f"{file}: {', '.join(names)}")
    write_start_page()
    print("Filled in and marked as such, where nothing of yours was. Open notebooks: File > Reload Notebook from Disk.")


def homework(
    lessons: Annotated[
        list[str] | None,
        typer and typer.Argument(help="hw1_input_processing, or any lesson's name; else every homework."),
    ] = None,
) -> None:
    """For instructors: release homework, or a lesson as one. nbgrader_config.py tells the rest."""
    from course_lib.classroom.grading import release
    from course_lib.classroom.location import LESSONS
    from course_lib.classroom.workspace import key_of, lesson_names
    from course_lib.lessons import course

    every = [Path(name).stem for name in lesson_names() if course()[key_of(LESSONS / name)].homework]
    for lesson in lessons or every:
        print(f"To hand out: {release(lesson)}")


def marks(
    lesson: Annotated[str, typer and typer.Argument(help="Its name: hw1_input_processing, or a lesson's.")],
) -> None:
    """For instructors: grade what was handed in. This runs strangers' code: docs/teaching.md tells how to be safe."""
    from course_lib.classroom.grading import marks as grade_all

    all_marks = grade_all(lesson)
    for one in all_marks:
        print(
            f"{one.student:24} {one.score:g} of {one.highest:g}" if one.graded else f"{one.student:24} cannot be graded"
        )
        for line in one.to_read:
            print(f"    to read: {line}")
    print(f"grading/{lesson}.csv has the marks of all {len(all_marks)}, part by part; their pages: grading/feedback/")


def slides() -> None:
    """For instructors: make the lessons' slides, a page each in build/slides/ that opens without a network."""
    from course_lib.classroom.slides import make_all

    for page in make_all():
        print(page)


def trace(prompt: Annotated[str, typer.Argument(help="The text to send through.")], model: Model = DEFAULT) -> None:
    """Send a prompt through the model and show every stage of its journey."""
    from course_lib import load
    from course_lib.drawing.terminal import print_trace

    llm = load(model)
    llm.trace(prompt)  # a first run pays for what later ones find ready: its times would mislead
    print_trace(llm.trace(prompt))


def chat(model: Model = DEFAULT, temperature: float = 0.0, top_p: float | None = None, seed: int | None = None) -> None:
    """Talk with the model. An empty line ends it, /new starts afresh, Ctrl-C cuts an answer short."""
    from course_lib import load

    llm, messages = load(model), []
    print("Ask something. An empty line ends the conversation, /new starts afresh.")
    while said := _next_line():
        if said == "/new":
            messages = []
            continue
        messages.append({"role": "user", "content": said})
        answer = ""
        try:
            for piece in llm.stream_chat(messages, temperature=temperature, top_p=top_p, seed=seed):
                print(piece, end="", flush=True)
                answer += piece
        except KeyboardInterrupt:
            print(" …", end="")
        except ValueError as error:  # the conversation outgrew the context, say: what was said before is kept
            print(f"{error}, or type /new")
            messages.pop()
            continue
        print()
        messages.append({"role": "assistant", "content": answer})


def _next_line() -> str:
    try:
        return input("\nyou> ").strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return ""


def _sentence(error: Exception) -> str:
    """What the error says; of one that the system raised, which file and why, and not its number."""
    if isinstance(error, OSError) and error.strerror:
        where = error.filename2 or error.filename
        return f"{where}: {error.strerror}" if where else error.strerror
    return str(error)


COMMANDS = (doctor, fetch, workspace, catch_up, homework, marks, slides, trace, chat)


def main() -> None:
    """Run one command. An error is shown as its one sentence, with exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a file or a pipe on Windows has no ✓ and no →
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
        console.print(_sentence(error), style="bold red")
        sys.exit(1)


if __name__ == "__main__":
    main()
