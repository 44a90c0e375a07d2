"""`/v0`, the State Manager API: the wire protocol that programs written for Exosphere speak. This half serves nodes, graphs and secrets."""
