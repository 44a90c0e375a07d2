"""Loading checkpoints is safe.

Only harmless types are rebuilt, and plain values are refused where values must be encrypted.
"""

import pytest

pytest.importorskip("langgraph.checkpoint.base")
import ormsgpack
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from runs.langgraph.saver import DjangoSaver
from runs.models import Checkpoint, CheckpointBlob, Run
from tests.support import langgraph_apps
from tests.support.checkpoints import place, put

pytestmark = pytest.mark.django_db(transaction=True)


class Planted:
    """A type that must not be rebuilt.

    It notes that it was called instead of raising an error, because the serializer would take an
    error for a value that cannot be rebuilt, and pass over it.
    """

    called = False

    def __init__(self, value=""):
        Planted.called = True


def test_only_harmless_types_are_rebuilt(saver):
    planted = ormsgpack.packb(
        {"x": ormsgpack.Ext(0, ormsgpack.packb((Planted.__module__, "Planted", "rm -rf")))}
    )
    put(saver, values={"a": 1})
    CheckpointBlob.objects.update(type="msgpack", body=planted)
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": {"x": "rm -rf"}}
    assert not Planted.called
    CheckpointBlob.objects.update(type="pickle", body=b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(NotImplementedError):
        saver.get_tuple(place("t"))


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_serializer_that_would_allow_everything_is_made_strict(encrypted):
    planted = ormsgpack.packb(
        ormsgpack.Ext(0, ormsgpack.packb((Planted.__module__, "Planted", "rm -rf")))
    )
    lax = JsonPlusSerializer(pickle_fallback=True, allowed_msgpack_modules=True)
    crypt = langgraph_apps.fernet(lax)
    Planted.called = False
    saver = DjangoSaver("alpha", serde=crypt if encrypted else lax)
    put(saver, values={"a": 1})
    if encrypted:
        name, body = crypt.cipher.encrypt(planted)
        CheckpointBlob.objects.update(type=f"msgpack+{name}", body=body)
    else:
        CheckpointBlob.objects.update(type="msgpack", body=planted)
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": "rm -rf"}
    assert not Planted.called


def test_a_plain_value_among_encrypted_ones_is_refused():
    saver = DjangoSaver("alpha", serde=langgraph_apps.fernet())
    config = put(saver, values={"a": "mine"})
    plain = JsonPlusSerializer().dumps_typed("theirs")
    for model, wrong in (
        (CheckpointBlob, dict(zip(("type", "body"), plain, strict=True))),
        (Checkpoint, {"type": "null", "body": b""}),
    ):
        original = model.objects.values("id", "type", "body").get()
        model.objects.update(**wrong)
        with pytest.raises(ValueError, match="not encrypted"):
            saver.get_tuple(config)
        model.objects.update(**original)
    assert saver.get_tuple(config).checkpoint["channel_values"] == {"a": "mine"}


def test_values_with_lone_surrogates_are_shown(saver, admin_client, client, make_key):
    put(saver, values={"a": 1})
    CheckpointBlob.objects.update(type="json", body=b'{"\\ud800": ["\\udfff", "fine"]}')
    run = Run.objects.get(run_id="t")
    checkpoint = Checkpoint.objects.get()
    answer = client.get(
        f"/runs/t/checkpoints/{checkpoint.checkpoint_id}", headers={"X-API-Key": make_key("read")}
    )
    assert answer.json()["values"] == {"a": {"?": ["?", "fine"]}}
    page = admin_client.get(
        f"/admin/run-manager/run/{run.pk}/checkpoints/?checkpoint={checkpoint.pk}"
    )
    assert "fine" in page.content.decode()


def test_encrypted_values_are_not_readable_in_the_database():
    serde = (
        EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
        if langgraph_apps.has_aes()
        else langgraph_apps.fernet()
    )
    saver = DjangoSaver("alpha", serde=serde)
    put(saver, values={"a": "a very secret value"})
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": "a very secret value"}
    stored = b"".join(
        bytes(row.body) for model in (CheckpointBlob, Checkpoint) for row in model.objects.all()
    )
    assert b"secret" not in stored
