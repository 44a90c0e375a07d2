"""The django-q2 cluster of this process.

django-q2 transports hints only. The database is the record of what must run, and the sweeper
repeats hints that are lost, so the queue itself must not retry, store or schedule anything.
"""

import signal

from django_q.cluster import Cluster as QCluster
from django_q.conf import Conf

from runs.engine.wakeup import QUEUE
from statemanager.conf import conf


def configure(workers: int) -> None:
    """Give django-q2 these settings in this process.

    Q_CLUSTER is left to the project, which may run clusters of its own beside ours.
    """
    Conf.PREFIX = Conf.CLUSTER_NAME = QUEUE
    Conf.Q_STAT = f"django_q:{QUEUE}:cluster"
    Conf.ORM = "default"
    Conf.BROKER_CLASS = "runs.cluster.broker.WakingBroker"
    Conf.WORKERS = workers
    # A cluster takes no more hints than its workers can start at once. More of them would wait
    # there while the workers of other clusters are idle.
    Conf.QUEUE_LIMIT = workers
    Conf.BULK = 1
    # Seconds. A worker is killed after TIMEOUT, and a hint is delivered again after RETRY. With
    # TIMEOUT above twice the longest node, a busy worker is not killed: beside a slow node it
    # begins others. With RETRY above TIMEOUT, a hint that a worker is still busy with is not
    # delivered a second time.
    Conf.TIMEOUT = 2 * int(conf.NODE_TIMEOUT_SECONDS) + 60
    Conf.RETRY = Conf.TIMEOUT + 60
    # A hint that fails is dropped after one attempt. Otherwise a hint that crashes its worker would
    # come back and crash the next one.
    Conf.MAX_ATTEMPTS = 1
    Conf.ACK_FAILURES = True
    # Results are not stored. They would fill a table that nothing reads.
    Conf.SAVE_LIMIT = -1
    Conf.SAVE_LIMIT_PER = None
    Conf.CACHED = Conf.SYNC = Conf.COMPRESSED = False
    # The sweeper fires schedules, in the transaction that starts the run.
    Conf.SCHEDULER = Conf.CATCH_UP = False
    # A worker is replaced after this many hints, so that a leak of memory in a node stays bounded.
    Conf.RECYCLE = 5000
    Conf.MAX_RSS = None
    # django-q2 notices a hung task by counting down in steps of GUARD_CYCLE. With other values the
    # countdown can jump over zero, and the hung worker is never killed.
    Conf.GUARD_CYCLE = 0.5


def run_cluster(workers: int) -> int:
    """Run a django-q2 cluster in this process until SIGTERM.

    Returns 0, or 1 if its sentinel died without being asked to stop.
    """
    configure(workers)
    cluster = QCluster()
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        if cluster.stop_event:
            cluster.stop_event.set()

    signal.signal(signal.SIGTERM, stop)
    # Ctrl-C reaches the supervisor, which then sends SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cluster.start()
    while cluster.sentinel.is_alive():
        cluster.sentinel.join(0.5)
    return 0 if stopping else 1
