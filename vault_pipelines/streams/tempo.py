"""How deliveries are gathered into batches: settings of all agents."""

DELIVERIES_AT_ONCE = 200
CALLS_AT_ONCE = 100
WITHIN_SECONDS = 0.05
