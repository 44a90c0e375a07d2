"""The WSGI application that the web server runs."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "statemanager.settings")
application = get_wsgi_application()

from runs.core import silent_path, sql  # noqa: E402 -- Django must be set up

sql.limit_lock_waits(sql.WEB_LOCK_SECONDS)
silent_path.watch()

# Set by `manage.py up`. Without it, the workers of the web server would outlive a killed server.
if os.environ.get("STATEMANAGER_DIES_WITH_PARENT"):
    from runs.cluster.processes import die_with_parent

    die_with_parent()
