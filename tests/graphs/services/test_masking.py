"""Secrets are masked however they are spelt, wherever they stand, at a bounded cost."""

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.auth.callers import SYSTEM
from graphs.nodes.base import WaitForAnswer, node, registry
from graphs.services import secrets
from graphs.services.masking import MASK, MAX_SPELLINGS, MIN_MASKED, Mask
from runs.engine.answer import answer_state
from runs.engine.start import start_run
from runs.models import LogLine, Run

PRINTABLE = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=MIN_MASKED, max_size=60
)
# The dots of the mask itself are no secret.
TEXTS = PRINTABLE.filter(lambda text: "•" not in text and not text.isdigit())
KINDS = {
    "whole": lambda text, other: text,
    "line": lambda text, other: f"{other}\n  {text}\r\n{other}",
    "member": lambda text, other: json.dumps({"a": [{"b": text}], "c": other, "d": True}),
    "line of a member": lambda text, other: json.dumps({"key": f"{other}\n{text}\n"}),
}


def escaped(text):
    return json.dumps(text)[1:-1]


ENCODINGS = {
    "plain": lambda text: text,
    "JSON": escaped,
    "JSON in Unicode": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "repr": lambda text: repr(text)[1:-1],
    "URL": quote,
    "URL part": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 without padding": lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    "urlsafe base64": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
}
PLACES = {
    "text": lambda text: f"before {text} after",
    "value": lambda text: {"a": [1, None, {"b": f"x{text}"}]},
    "key": lambda text: {text: 1, "other": 2},
    "tuple": lambda text: {"a": ("x", (text,))},
}


@given(TEXTS, TEXTS, st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(ENCODINGS)),
       st.sampled_from(sorted(PLACES)))  # fmt: skip
def test_a_secret_is_masked_in_every_spelling_and_place(text, other, kind, encoding, place):
    spelt = ENCODINGS[encoding](text)
    mask = Mask([KINDS[kind](text, other)])
    stored = PLACES[place](spelt)
    masked = mask.text(stored) if isinstance(stored, str) else mask.value(stored)
    assert spelt not in json.dumps(masked, ensure_ascii=False)
    assert MASK in json.dumps(masked, ensure_ascii=False)


@given(TEXTS, st.binary(max_size=5), st.binary(max_size=5), st.booleans())
def test_a_secret_within_other_bytes_is_masked_in_their_base64(text, before, after, urlsafe):
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    masked = Mask([text]).text(encode(before + text.encode() + after).decode())
    assert MASK in masked
    # What is left are the characters that the secret shares with its neighbours.
    assert len(masked.replace(MASK, "")) <= (len(before) + 2 + len(after) + 2) // 3 * 4 + 8


@given(TEXTS, st.text(max_size=MIN_MASKED - 1))
def test_texts_without_secrets_and_short_members_stay_as_they_are(text, short):
    mask = Mask([json.dumps([text, short, 1, True])])
    value = {"a": [short, "true", 1, None], "b": "a text of its own"}
    assert mask.value(value) is value


def test_the_number_of_spellings_is_bounded_and_the_whole_is_always_masked():
    lines = [f"line {number} of a long secret" for number in range(20_000)]
    secret = "\n".join(lines)
    mask = Mask([secret, "another-secret"])
    assert len(mask._spellings) <= MAX_SPELLINGS + 20
    text = f"{secret} {json.dumps(secret)} another-secret {lines[0]}"
    assert mask.text(text) == f'{MASK} "{MASK}" {MASK} {MASK}'


class Counted(str):
    """A text that counts how often it is searched and replaced."""

    __slots__ = ("searched",)

    def __contains__(self, part):
        self.searched = getattr(self, "searched", 0) + 1
        return str.__contains__(self, part)


def test_an_output_is_searched_once_for_each_spelling_and_copied_only_if_there_is_one():
    """So 2 MB in 100,000 texts cost what they cost as one text: a scan for each spelling."""
    mask = Mask(["a-secret-value", "-----BEGIN KEY-----\nabcdefghijkl\nmnopqrstuvwx\n"])
    assert len(mask._spellings) < 60
    rows = {"rows": [{"name": "a text of 20 letters"} for _ in range(100_000)]}
    assert mask.value(rows) is rows
    text = Counted("x" * 2_000_000)
    assert mask.value(text) is text
    assert text.searched == len(mask._spellings)


@pytest.fixture
def leaking_node(namespace):
    """A node that leaks a spelling of a part of its secret in every way, then asks, then fails."""

    @node("test.leak_spelling", secrets=["token"])
    def leak(ctx, encoding: str):
        assert ctx.secrets["token"] == SECRET
        text = " ".join(ENCODINGS[encoding](part) for part in PARTS)
        ctx.log(text)
        with ctx.artifact(f"{text[:150]}.txt") as file:
            file.write(b"x")
        ctx.once(text, {}, lambda: {text: text})
        if ctx.answer is None:
            raise WaitForAnswer(f"Is {text} right?", {"title": text, "type": "object"})
        if ctx.answer["value"]["fail"]:
            raise ValueError(text)
        return {text: [text]}

    registry.store()
    yield
    del registry["test.leak_spelling"]


PARTS = ("first line+/=", "second line+/=", "the-user-name")
SECRET = json.dumps({"user": "the-user-name", "key": "first line+/=\nsecond line+/=\n"})


@pytest.mark.django_db
@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_no_spelling_of_a_part_reaches_a_table(publish, drain, leaking_node, encoding, fail):
    graph = publish("a", kinds={"a": "test.leak_spelling"}, inputs={"a": {"encoding": encoding}})
    secrets.replace(graph, {"token": SECRET})
    run = start_run(graph)
    drain()
    asking = run.states.get()
    assert asking.waiting_for["question"] == f"Is {MASK} {MASK} {MASK} right?"
    answer_state(run, asking.pk, {"fail": fail}, SYSTEM)
    drain()
    state = run.states.get()
    assert state.error == (f"ValueError: {MASK} {MASK} {MASK}" if fail else "")
    rows = [run.states, run.artifacts, run.tool_results, LogLine.objects, Run.objects]
    stored = json.dumps([list(each.values()) for each in rows], default=str, ensure_ascii=False)
    assert not [part for part in PARTS if ENCODINGS[encoding](part) in stored]
