"""The application that the web server runs: the WSGI application, safe from slow clients."""

from statemanager.wsgi import application as wsgi_application  # it also sets Django up

# isort: split
from typing import cast

from django.conf import settings

from statemanager.slow_clients.application import SlowClients
from statemanager.slow_clients.response import WsgiApplication

application = SlowClients(cast(WsgiApplication, wsgi_application), settings.WEB_THREADS)
