"""`/v0`: the protocol that programs written for Exosphere's state manager use.

This package serves nodes, graphs and secrets, `runs.api.v0` states and runs.
"""
