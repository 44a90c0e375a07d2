"""The times promised in docs/promises.md, computed for the short leases of the tests.

The seconds are repeated here, not imported from the engine: changing the engine must not change
what is promised.
"""

# The values of `tests.support.clusters.FAST`.
LEASE_SECONDS = 4
SWEEP_SECONDS = 1
PROBE_SECONDS = 2
GRACE_SECONDS = 5

# From the death of a worker to the next claim of its states, in 95 of 100 cases.
RECOVERY_SECONDS = LEASE_SECONDS + SWEEP_SECONDS + 2
# The same, when the cluster that would claim them is stuck and must be replaced first.
LONGEST_RECOVERY_SECONDS = RECOVERY_SECONDS + 3 * PROBE_SECONDS + 5
# From the moment at which a cluster got stuck, or at which PostgreSQL accepts connections again,
# to the next finished work.
BACK_SECONDS = 15

# What the tests allow on top for a busy machine. On two cores that also ran browsers and other
# suites, recoveries took 10 s (p95) and 21 s (the longest of 1,000) more than on a quiet machine,
# because every replaced process has to start first. The bounds are still meaningful: without the
# mechanism that they test, a recovery takes a minute or never happens.
NOISE_SECONDS = 15
