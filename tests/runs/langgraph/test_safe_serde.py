"""What a stored checkpoint can bring to life: harmless types only, and no plain text where values are encrypted."""

import pytest

pytest.importorskip("langgraph.checkpoint.base")
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from runs.langgraph.saver import DjangoSaver
from runs.models import Checkpoint, CheckpointBlob, Run
from tests.support import langgraph_apps
from tests.support.checkpoints import place, put

pytestmark = pytest.mark.django_db(transaction=True)


class Planted:
    """What a checkpoint must not bring to life; an error in it would be taken for a value that can't be rebuilt."""

    called = False

    def __init__(self, value=""):
        Planted.called = True


def test_only_harmless_types_come_to_life(saver):
    import ormsgpack

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


@pytest.mark.parametrize("given", ["alone", "encrypted"])
def test_a_serialiser_that_would_allow_all_is_made_strict(given):
    import ormsgpack

    planted = ormsgpack.packb(
        ormsgpack.Ext(0, ormsgpack.packb((Planted.__module__, "Planted", "rm -rf")))
    )
    lax = JsonPlusSerializer(pickle_fallback=True, allowed_msgpack_modules=True)
    crypt = langgraph_apps.fernet(lax)
    Planted.called = False
    saver = DjangoSaver("alpha", serde=lax if given == "alone" else crypt)
    put(saver, values={"a": 1})
    name, body = crypt.cipher.encrypt(planted)
    CheckpointBlob.objects.update(
        type="msgpack" if given == "alone" else f"msgpack+{name}",
        body=planted if given == "alone" else body,
    )
    assert saver.get_tuple(place("t")).checkpoint["channel_values"] == {"a": "rm -rf"}
    assert not Planted.called


def test_a_plain_value_beside_encrypted_ones_is_refused():
    saver = DjangoSaver("alpha", serde=langgraph_apps.fernet())
    config = put(saver, values={"a": "mine"})
    plain = JsonPlusSerializer().dumps_typed("theirs")
    for model, wrong in (
        (CheckpointBlob, dict(zip(("type", "body"), plain, strict=True))),
        (Checkpoint, {"type": "null", "body": b""}),
    ):
        was = model.objects.values("id", "type", "body").get()
        model.objects.update(**wrong)
        with pytest.raises(ValueError, match="not encrypted"):
            saver.get_tuple(config)
        model.objects.update(**was)
    assert saver.get_tuple(config).checkpoint["channel_values"] == {"a": "mine"}


def test_what_no_text_can_say_is_shown_all_the_same(saver, admin_client, client, make_key):
    put(saver, values={"a": 1})
    CheckpointBlob.objects.update(type="json", body=b'{"\\ud800": ["\\udfff", "fine"]}')
    run, row = Run.objects.get(run_id="t"), Checkpoint.objects.get()
    shown = client.get(
        f"/runs/t/checkpoints/{row.checkpoint_id}", headers={"X-API-Key": make_key("read")}
    )
    assert shown.json()["values"] == {"a": {"?": ["?", "fine"]}}
    assert (
        "fine"
        in admin_client.get(
            f"/admin/run-manager/run/{run.pk}/checkpoints/?checkpoint={row.pk}"
        ).content.decode()
    )


def test_encrypted_values_are_no_plain_text_in_the_database():
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
