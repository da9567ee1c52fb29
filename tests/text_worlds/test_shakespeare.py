import pytest

from course_lib.text_worlds import shakespeare


def test_the_works():
    works = shakespeare.works()
    assert len(works) == 42 and list(works) == sorted(works)
    assert works["hamlet"].startswith("HAMLET, PRINCE OF DENMARK")
    assert "To be, or not to be,--that is the question" in works["hamlet"]


def test_the_text_is_all_of_them():
    text = shakespeare.text()
    assert (len(text), len(set(text))) == (5_057_198, 84) and text.isascii()
    assert text == "".join(shakespeare.works().values())


def test_a_work_can_be_held_out():
    tempest = shakespeare.works()["tempest"]
    rest = shakespeare.text(without=["tempest"])
    assert len(rest) + len(tempest) == len(shakespeare.text()) and "PROSPERO" not in rest
    assert shakespeare.text(without="tempest") == rest


def test_an_unknown_work_is_named():
    with pytest.raises(ValueError, match=r"got 'the-tempest': did you mean 'tempest'\?"):
        shakespeare.text(without=["the-tempest"])
    with pytest.raises(ValueError, match="got 'faust': the names are alls-well"):
        shakespeare.text(without="faust")
