"""How a large language model works, from prompt to response.

    from course_lib import load
    llm = load("smollm2-135m")
    llm.generate("The dog ran up the")

The folders are the three phases of the journey: `input_processing`, `transformer_block`, `prediction`.
"""

__all__ = ["load"]


def __getattr__(name):
    # torch takes seconds to import: `python -m course_lib doctor` must work without it
    if name == "load":
        from course_lib.llm import load

        return load
    raise AttributeError(f"module 'course_lib' has no attribute {name!r}")
