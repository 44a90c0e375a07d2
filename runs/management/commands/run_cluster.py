import os

from django.core.management.base import BaseCommand, CommandParser

from runs.cluster import q_cluster
from runs.cluster.processes import die_with_parent
from runs.core import silent_path, sql
from statemanager.conf import conf


class Command(BaseCommand):
    help = (
        "Run one django-q2 cluster in this process, without a supervisor."
        " `supervise` starts this command; use that instead."
    )
    requires_system_checks: list[str] = []  # the supervisor has made them

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--workers", type=int, default=conf.WORKERS)

    def handle(self, *args: object, workers: int, **options: object) -> None:
        sql.limit_lock_waits(sql.ENGINE_LOCK_SECONDS)
        silent_path.watch()
        os.register_at_fork(after_in_child=die_with_parent)
        raise SystemExit(q_cluster.run_cluster(workers))
