"""How deliveries are gathered into batches: settings of all agents.

An agent looks for a batch so often whether anything came or not, so those for which nobody waits look seldom.
"""

DELIVERIES_AT_ONCE = 200
CALLS_AT_ONCE = 100
WITHIN_SECONDS = 0.05
SELDOM_WITHIN_SECONDS = 0.5
