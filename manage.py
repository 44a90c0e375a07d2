#!/usr/bin/env python3
"""The command line of State Manager: `python manage.py help` lists what it can do."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "statemanager.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import OperationalError, ProgrammingError

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"State Manager can't start: {error}")
    except (OperationalError, ProgrammingError) as error:
        missing = "no such table" in str(error) or "does not exist" in str(error)
        advice = (
            "Run `manage.py migrate` first."
            if missing
            else "Is it running, and is DATABASE_URL right?"
        )
        sys.exit(f"The database can't be used: {str(error).strip()}. {advice}")


if __name__ == "__main__":
    main()
