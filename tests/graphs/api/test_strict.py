"""No route takes what it doesn't know, cuts blanks off, or reads one type as another."""

import re
from pathlib import Path

import pytest
from django.urls import get_resolver
from pydantic import ValidationError as PydanticError
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from graphs.api import strict
from graphs.api.serializers import AnyJson
from graphs.api.v0.base import V0ViewSet
from graphs.api.v0.schemas import StrictModel
from graphs.api.viewsets import ViewSet
from runs.api.v0.worker_schemas import EnqueueBody
from tests.support.openapi import document

STRICT_KINDS = {
    serializers.CharField: strict.CharField,
    serializers.ChoiceField: strict.ChoiceField,
    serializers.IntegerField: strict.IntegerField,
    serializers.FloatField: strict.FloatField,
    serializers.BooleanField: strict.BooleanField,
    serializers.UUIDField: strict.UUIDField,
}


def subclasses(kind):
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def ours():
    assert get_resolver().url_patterns  # imports all views
    found = set(subclasses(serializers.BaseSerializer))
    return sorted(
        {
            kind
            for kind in found
            if kind.__module__.startswith(("graphs.", "runs.", "statemanager."))
        },
        key=lambda kind: kind.__qualname__,
    )


def fields_within(field):
    yield field
    for child in getattr(field, "fields", {}).values():
        yield from fields_within(child)
    child = getattr(field, "child", None)
    if child is not None:
        yield from fields_within(child)


@pytest.mark.parametrize("kind", ours(), ids=lambda kind: kind.__qualname__)
def test_every_serializer_and_every_field_is_strict(kind):
    assert issubclass(kind, strict.KnownMembers)
    if kind in (strict.KnownMembers, strict.Serializer):
        return
    written = [field for field in fields_within(kind()) if not field.read_only]
    for field in written:
        for lenient, wanted in STRICT_KINDS.items():
            if isinstance(field, lenient) and not isinstance(field, serializers.JSONField):
                assert isinstance(field, wanted), field


WRONG = {
    strict.CharField(): [1, True, ["1"], {"a": 1}],
    strict.ChoiceField(("1", "True")): [1, True, ["1"], {}],
    strict.IntegerField(): ["1", True, 1.0, 1.5, "", [1]],
    strict.FloatField(): ["1", True, [1.0]],
    strict.BooleanField(): ["true", 1, 0, "yes", [True]],
    strict.UUIDField(): [1, "x"],
}


@pytest.mark.parametrize("field", WRONG, ids=lambda field: type(field).__name__)
def test_a_value_of_another_type_is_refused(field):
    for value in WRONG[field]:
        with pytest.raises(ValidationError):
            field.run_validation(value)


def test_blanks_belong_to_a_text():
    assert strict.CharField().run_validation(" x\n") == " x\n"
    assert AnyJson().run_validation(" x ") == " x "


class _Inner(strict.Serializer):
    text = strict.CharField()


class _Outer(strict.Serializer):
    inner = _Inner(many=True)
    number = strict.IntegerField()


def test_unknown_members_are_named_beside_all_other_errors():
    serializer = _Outer(data={"inner": [{"text": "a", "txet": "b"}], "number": "1", "x": 1})
    assert not serializer.is_valid()
    assert set(serializer.errors) == {"inner", "number", "x"}
    assert set(serializer.errors["inner"][0]) == {"txet"}


# --- the routes ---------------------------------------------------------------------------------


def operations():
    """(path, method, viewset, action) of every route of the API."""

    def walk(patterns, prefix):
        for pattern in patterns:
            path = prefix + str(pattern.pattern)
            if hasattr(pattern, "url_patterns"):
                yield from walk(pattern.url_patterns, path)
                continue
            kind = getattr(pattern.callback, "cls", None)
            actions = getattr(pattern.callback, "actions", None) or {}
            if kind and issubclass(kind, ViewSet):
                options = getattr(pattern.callback, "initkwargs", {})
                for method, action in actions.items():
                    yield path, method, kind, action, options

    return [found for found in walk(get_resolver().url_patterns, "") if found[1] != "head"]


def documented(path, method):
    """The operation in the OpenAPI document, whose paths name their parameters as URLs do."""
    plain = "/" + path.replace("<str:", "{").replace(">", "}")
    return document()["paths"][plain].get(method)


def names(operation, place):
    return {item["name"] for item in operation.get("parameters", ()) if item["in"] == place}


@pytest.mark.parametrize(
    ("path", "method", "kind", "action", "options"),
    operations(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_action_knows_the_parameters_and_the_body_that_are_documented(
    path, method, kind, action, options
):
    operation = documented(path, method)
    if operation is None:
        pytest.skip("another spelling of a documented path")
    view = kind(**options)
    view.action = action
    view.request = None
    assert view.known_queries() == names(operation, "query")
    if not issubclass(kind, V0ViewSet) and method != "delete":  # OpenAPI has none for DELETE
        assert (action in view.bodies) == ("requestBody" in operation)


def models(kind=StrictModel):
    for child in kind.__subclasses__():
        yield child
        yield from models(child)


def test_every_body_of_v0_is_strict():
    """`body()` reads the request with one of these, and each model within it is one, too."""
    modules = "".join(module.read_text() for module in Path(".").glob("*/api/v0/*.py"))
    read = set(re.findall(r"self\.body\(schemas\.(\w+)\)", modules))
    strict_models = {kind.__name__: kind for kind in models()}
    assert read
    assert read <= strict_models.keys()
    for name in read:
        for definition in strict_models[name].model_json_schema().get("$defs", {}):
            assert definition in strict_models


@pytest.mark.parametrize("wrong", ["2", True, 2.0, "2.0"])
def test_a_number_of_v0_is_a_number(wrong):
    with pytest.raises(PydanticError):
        EnqueueBody.model_validate({"nodes": ["a"], "batch_size": wrong})
    assert EnqueueBody.model_validate({"nodes": ["a"], "batch_size": 2, "x": 1}).batch_size == 2
