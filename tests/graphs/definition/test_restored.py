"""Secrets that were shown as dots and come back: each is the one that stood there, or refused."""

import pytest

from graphs.definition import errors
from graphs.definition.redaction import DOTS, restored, shown

ANN = {"name": "ann", "password": "ann's"}
BOB = {"name": "bob", "password": "bob's"}
CARL = {"name": "carl", "password": "new"}


def dotted(account, **changes):
    return {**account, "password": DOTS, **changes}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([dotted(ANN), dotted(BOB)], [ANN, BOB]),
        ([dotted(BOB), dotted(ANN)], [BOB, ANN]),
        ([dotted(BOB)], [BOB]),
        ([dotted(BOB), CARL], [BOB, CARL]),
        ([{"name": "new"}, dotted(ANN), dotted(BOB)], [{"name": "new"}, ANN, BOB]),
        ([dotted(ANN, name="anna"), dotted(BOB)], [{**ANN, "name": "anna"}, BOB]),
        ([dotted(ANN), {"name": "bob", "password": "new"}], [ANN, {**BOB, "password": "new"}]),
    ],
)
def test_an_item_of_a_list_keeps_its_own_secret(sent, expected):
    assert restored({"accounts": sent}, {"accounts": [ANN, BOB]}) == {"accounts": expected}


@pytest.mark.parametrize(
    "sent",
    [
        {"accounts": [dotted(BOB, name="ben")]},
        {"accounts": [dotted(ANN), dotted(BOB), dotted(BOB, name="carl")]},
        {"accounts": [dotted(BOB, name="x"), dotted(ANN)]},
        {"accounts": [dotted(ANN, name="x"), dotted(BOB, name="y")]},
        {"accounts": [dotted(BOB, name="x"), CARL]},
        {"pass_word": DOTS},
        {"password": {"deep": DOTS}},
        {"list": [DOTS]},
        DOTS,
    ],
)
def test_dots_that_stand_for_no_certain_secret_are_refused(sent):
    former = {"accounts": [ANN, BOB], "token": "t"} if sent != DOTS else None
    with pytest.raises(errors.Malformed, match="Enter the value"):
        restored(sent, former)


def test_items_that_look_the_same_are_told_by_their_places_only():
    twins = [{"password": "one"}, {"password": "two"}]
    assert restored(shown(twins), twins) == twins
    with pytest.raises(errors.Malformed, match=r"\[0\].password"):
        restored(shown(twins)[1:], twins)
    same = [{"password": "one"}, {"password": "one"}]
    assert restored(shown(same)[1:], same) == same[1:]


def test_what_a_person_types_beside_dots_is_kept():
    former = {"user": "u", "password": "p", "tags": ["a"]}
    sent = {"user": "v", "password": DOTS, "tags": ["b", "c"], "more": {"x": [1]}}
    assert restored(sent, former) == {**sent, "password": "p"}
