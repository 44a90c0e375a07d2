"""What callers did to graphs and what belongs to them, for the audit trail.

The trail lies with the runs, which graphs don't know. So an act is sent as a signal, and
`runs.models.audit` writes it in the transaction of the act. An error there ends the act, too.
"""

from django.dispatch import Signal

from graphs.auth.callers import Caller

acted = Signal()  # with caller, action, detail and namespace, which is an id or None


def record(caller: Caller, action: str, namespace: int | None, detail: str) -> None:
    """Record an act. `detail` names the thing and never holds the value of a secret."""
    acted.send(Caller, caller=caller, action=action, namespace=namespace, detail=detail)
