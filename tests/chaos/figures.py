"""The times that docs/promises.md names, as they are with the short leases of tests, and what a machine with other work may add to them.

The seconds stand here and not in the engine's words: a change there is not to change what is promised.
"""

LEASE_SECONDS, SWEEP_SECONDS, PROBE_SECONDS, GRACE_SECONDS = (
    4,
    1,
    2,
    5,
)  # those of `tests.support.clusters.FAST`

RECOVERY_SECONDS = (
    LEASE_SECONDS + SWEEP_SECONDS + 2
)  # from a worker's death to the next claim of what it held; 95 of 100
LONGEST_RECOVERY_SECONDS = (
    RECOVERY_SECONDS + 3 * PROBE_SECONDS + 5
)  # the cluster that would claim it is wedged, and is replaced first
BACK_SECONDS = 15  # of work after a cluster was wedged, and after a PostgreSQL that was away takes connections again

# What tests allow beyond: on two cores that ran browsers and other suites meanwhile, recoveries took 10 s (p95) and 21 s (the longest of 1,000) more than
# on quiet ones, because whatever is replaced has to be started first. Without their cause, what these figures are about would not happen at all or after
# a minute, so that they still tell.
NOISE_SECONDS = 15
