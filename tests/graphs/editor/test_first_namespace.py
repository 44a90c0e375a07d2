"""A site without a namespace says so, and offers to make one to whoever may."""

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from graphs.models import Graph, Namespace
from tests.support.pages import text

pytestmark = pytest.mark.django_db
PAGES = ("flow_home", "flow_datasets")


@pytest.fixture(autouse=True)
def no_namespace():
    Graph.objects.all().delete()
    Namespace.objects.exclude(name="builtin").delete()


@pytest.mark.parametrize("name", PAGES)
def test_a_superuser_is_led_to_make_one(admin_client, name):
    page = text(admin_client.get(reverse(name)))
    assert "There is no namespace yet" in page
    assert reverse("admin:statemanager_graphs_namespace_add") in page
    assert "needs the right to start runs" not in page
    Namespace.objects.create(name="first")
    assert "There is no namespace yet" not in text(admin_client.get(reverse(name)))


@pytest.mark.parametrize("name", PAGES)
def test_others_are_told_whom_to_ask(client, name):
    user = User.objects.create_user("vera", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(user)
    page = text(client.get(reverse(name)))
    assert "Ask an administrator" in page
    assert "namespace/add" not in page.split("<main", 1)[-1]
