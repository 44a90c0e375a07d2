"""The WSGI application that the web server runs."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "statemanager.settings")
application = get_wsgi_application()

if os.environ.get(
    "STATEMANAGER_DIES_WITH_PARENT"
):  # set by `manage.py up`, whose server's workers would outlive a killed server
    from runs.cluster.supervisor import die_with_parent

    die_with_parent()
