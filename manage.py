#!/usr/bin/env python3
"""The command line of State Manager. `python manage.py help` lists its commands."""

import os
import sys


def main() -> None:
    """Run a command. A wrong setting or an unusable database ends it with a sentence."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "statemanager.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.db import OperationalError, ProgrammingError

    try:
        run_command(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"State Manager can't start: {error}")
    except (OperationalError, ProgrammingError) as error:
        message = str(error).strip()
        if "no such table" in message or "does not exist" in message:
            advice = "Run `manage.py migrate` first."
        else:
            advice = "Is it running, and is DATABASE_URL right?"
        sys.exit(f"The database can't be used: {message}. {advice}")


def run_command(argv: list[str]) -> None:
    import django
    from django.core.management import ManagementUtility

    utility = ManagementUtility(argv)
    if argv[1:2] == ["version"]:
        # Django would print its own version without looking for a command of this name.
        django.setup()
        utility.fetch_command("version").run_from_argv(argv)
    else:
        utility.execute()


if __name__ == "__main__":
    main()
