import os
from typing import Any

from django.core.management.base import BaseCommand

from runs.cluster.supervisor import die_with_parent
from runs.engine import wakeup


class Command(BaseCommand):
    help = (
        "Run one django-q2 cluster in this process. `supervise` starts it; alone it is not watched."
    )
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        os.register_at_fork(after_in_child=die_with_parent)
        raise SystemExit(wakeup.run_cluster())
