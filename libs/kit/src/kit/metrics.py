"""The metrics that all services share. Each service has its own beside them, named `trainyard_<service>_…`.

No label says what a user wrote: every one has a handful of values, which are ours. What each metric means to its reader
is in docs/operations/observability.md; a test compares.
"""

from prometheus_client import Counter, Gauge, Histogram

from kit import tallying

SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
LONG = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)

REQUESTS = tallying.Counter("trainyard_requests_total", "Requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = tallying.Histogram(
    "trainyard_request_seconds", "Time to the last byte of the answer.", ["method", "route"]
)
IN_FLIGHT = Gauge("trainyard_requests_in_flight", "Requests being answered.")

LEASED = Counter("trainyard_leases_total", "Rows leased by this process.", ["table"])
LEASES_LOST = Counter("trainyard_leases_lost_total", "Leases that somebody else had before the work ended.", ["table"])
DUE = Gauge("trainyard_due_rows", "Rows that are due and that nobody has leased, of the whole table.", ["table"])
DUE_AGE = Gauge("trainyard_due_age_seconds", "How long the oldest of these has been due.", ["table"])
STEPS = Counter("trainyard_reconcile_steps_total", "Looks at a leased row, by how they ended.", ["table", "outcome"])
STEP_SECONDS = Histogram("trainyard_reconcile_seconds", "How long such a look took.", ["table"], buckets=SHORT)
PHASES = Gauge("trainyard_rows", "Rows of a table by phase, of all projects.", ["table", "phase"])

EVENTS_APPLIED = Counter("trainyard_events_applied_total", "Events of a neighbour that took effect here.", ["source"])
EVENT_LAG = Gauge("trainyard_event_lag_seconds", "Age of what was applied last; 0: there is no more.", ["source"])
EVENTS_READ = Gauge("trainyard_event_read_timestamp_seconds", "When the feed was last read to its end.", ["source"])
EVENTS_FAILED = Counter("trainyard_event_failures_total", "Readings of a feed that failed.", ["source"])

CALLS = Counter("trainyard_calls_total", "Requests to neighbours.", ["service", "status"])
CALL_SECONDS = Histogram("trainyard_call_seconds", "Time to the answer of a neighbour.", ["service"])
AWAY = Counter(
    "trainyard_dependency_failures_total", "What could not be done because somebody was away.", ["dependency"]
)

COLLECTED = Counter("trainyard_collected_total", "What nothing needed any more, and was removed.", ["kind"])

SPANS_EXPORTED = Counter("trainyard_spans_exported_total", "Spans that the collector took.")
SPANS_DROPPED = Counter("trainyard_spans_dropped_total", "Spans that it did not get.", ["reason"])
