import pytest

from course_lib.prediction.chat_template import render_chat

TEMPLATE = """
{%- for message in messages %}
    {%- if message['role'] == 'clown' %}{{ raise_exception('no clowns') }}{% endif %}
    {{- '[' + message['role'] + ']' + message['content'] + bos }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"""
HELLO = {"role": "user", "content": "Hello"}


def test_roles_special_tokens_and_the_assistants_turn():
    assert render_chat(TEMPLATE, [HELLO], {"bos": "<s>"}) == "[user]Hello<s>[assistant]"


@pytest.mark.parametrize("messages", [["Hello"], [{"role": "user"}], [{"role": "user", "content": 3}]])
def test_wrong_messages_are_a_sentence(messages, bad_input):
    with pytest.raises(ValueError, match="a message must be like"):
        render_chat(TEMPLATE, messages, {"bos": ""})


def test_no_messages():
    with pytest.raises(ValueError, match="messages is empty"):
        render_chat(TEMPLATE, [])


def test_the_templates_own_refusal_is_passed_on():
    with pytest.raises(ValueError, match="no clowns"):
        render_chat(TEMPLATE, [{"role": "clown", "content": "boo"}], {"bos": ""})


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__['render_chat'] }}",
    ],
)
def test_a_template_cannot_reach_out(attack):
    with pytest.raises(ValueError, match="chat template does not take"):
        render_chat(attack, [HELLO])
