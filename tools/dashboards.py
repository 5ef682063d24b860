"""Write Grafana's dashboards into the chart, and the table of metrics into its page: `python tools/dashboards.py`.
A test compares.

A dashboard is a list of rows, a row a list of panels, a panel a title, a unit and its queries with their legends.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import metric_names

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy/helm/trainyard/files/dashboards"
PAGE = ROOT / "docs/operations/observability.md"
SCHEMA = 41
WIDTH, HEIGHT = 24, 8
HERE = 'namespace=~"$namespace", job=~"$job"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Panel:
    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    """Expression and legend. `HERE` stands in it as `@`."""
    says: str = ""


def rate(metric: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{@{where}}}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str, where: str = "") -> str:
    inner = rate(f"{metric}_bucket", f"le, {by}", where)
    return f"histogram_quantile({share}, {inner})"


def mean(metric: str, by: str) -> str:
    return f"{rate(metric + '_sum', by)} / {rate(metric + '_count', by)}"


def quantiles(title: str, metric: str, by: str, says: str = "", where: str = "") -> Panel:
    queries = ((quantile(share, metric, by, where), f"{{{{{by}}}}} p{share * 100:g}") for share in (0.5, 0.99))
    return Panel(title, "s", tuple(queries), says)


QUIET = ', route!~"/(livez|readyz|metrics)"'
FAILED = ', status=~"5.."'
DASHBOARDS: dict[str, tuple[str, list[list[Panel]]]] = {
    "overview": (
        "Trainyard: overview",
        [
            [
                Panel("Requests", "reqps", ((rate("trainyard_requests_total", "job", QUIET), "{{job}}"),)),
                Panel(
                    "Share of requests that failed (5xx)",
                    "percentunit",
                    (
                        (
                            f"{rate('trainyard_requests_total', 'job', QUIET + FAILED)} / "
                            f"{rate('trainyard_requests_total', 'job', QUIET)}",
                            "{{job}}",
                        ),
                    ),
                ),
                quantiles("Latency", "trainyard_request_seconds", "job", "Long polls wait on purpose.", QUIET),
            ],
            [
                Panel("In flight", "short", (("sum by (job) (trainyard_requests_in_flight{@})", "{{job}}"),)),
                Panel(
                    "Slowest routes (p99)",
                    "s",
                    ((f"topk(10, {quantile(0.99, 'trainyard_request_seconds', 'route', QUIET)})", "{{route}}"),),
                ),
                Panel(
                    "Refused at the door",
                    "reqps",
                    (
                        (rate("trainyard_gateway_refused_total", "code"), "{{code}}"),
                        (rate("trainyard_edge_refusals_total", "code"), "edge {{code}}"),
                    ),
                ),
            ],
            [
                Panel(
                    "Copies that want requests",
                    "short",
                    (("sum by (service) (trainyard_gateway_ready_endpoints{@})", "{{service}}"),),
                ),
                Panel(
                    "Sent to copies",
                    "reqps",
                    (
                        (
                            rate("trainyard_gateway_upstream_requests_total", "service, outcome"),
                            "{{service}} {{outcome}}",
                        ),
                    ),
                ),
                Panel("Ejections", "short", ((rate("trainyard_gateway_ejections_total", "service"), "{{service}}"),)),
            ],
        ],
    ),
    "pipelines-and-jobs": (
        "Trainyard: pipelines and jobs",
        [
            [
                Panel(
                    "Due and not leased",
                    "short",
                    (("max by (table) (trainyard_due_rows{@})", "{{table}}"),),
                    "The reconcilers' backlog.",
                ),
                Panel(
                    "Age of the oldest of these", "s", (("max by (table) (trainyard_due_age_seconds{@})", "{{table}}"),)
                ),
                Panel(
                    "Looks at rows",
                    "ops",
                    ((rate("trainyard_reconcile_steps_total", "table, outcome"), "{{table}} {{outcome}}"),),
                ),
            ],
            [
                Panel("Jobs by phase", "short", (('max by (phase) (trainyard_rows{@, table="jobs"})', "{{phase}}"),)),
                Panel(
                    "Steps of pipelines by phase",
                    "short",
                    (('max by (phase) (trainyard_rows{@, table="steps"})', "{{phase}}"),),
                ),
                Panel(
                    "Dataset versions by phase",
                    "short",
                    (('max by (phase) (trainyard_rows{@, table="versions"})', "{{phase}}"),),
                ),
            ],
            [
                Panel(
                    "Wait for a runner",
                    "s",
                    tuple(
                        (quantile(share, "trainyard_trainer_queue_seconds", "job"), f"p{share * 100:g}")
                        for share in (0.5, 0.99)
                    ),
                ),
                Panel(
                    "Runners: attempts and slots",
                    "short",
                    (
                        ("sum(trainyard_trainer_runner_attempts{@})", "attempts"),
                        ("sum(trainyard_trainer_runner_slots{@})", "slots"),
                    ),
                ),
                Panel(
                    "Attempts that ended",
                    "ops",
                    ((rate("trainyard_trainer_attempts_total", "phase, reason"), "{{phase}} {{reason}}"),),
                ),
            ],
            [
                quantiles("How long attempts take", "trainyard_trainer_attempt_seconds", "job"),
                Panel(
                    "Jobs that ended",
                    "ops",
                    ((rate("trainyard_trainer_jobs_total", "phase, reason"), "{{phase}} {{reason}}"),),
                ),
                Panel(
                    "Leases lost",
                    "ops",
                    ((rate("trainyard_leases_lost_total", "table"), "{{table}}"),),
                    "Work that somebody else had to do again.",
                ),
            ],
        ],
    ),
    "serving": (
        "Trainyard: serving",
        [
            [
                Panel(
                    "Predictions by revision",
                    "reqps",
                    (
                        (
                            rate("trainyard_predict_seconds_count", "deployment, revision"),
                            "{{deployment}} r{{revision}}",
                        ),
                    ),
                ),
                Panel(
                    "Rows by revision",
                    "rowsps",
                    ((rate("trainyard_predicted_rows_total", "deployment, revision"), "{{deployment}} r{{revision}}"),),
                ),
                Panel(
                    "Predictions not made",
                    "reqps",
                    (
                        (
                            rate("trainyard_predict_refused_total", "deployment, revision"),
                            "{{deployment}} r{{revision}}",
                        ),
                    ),
                ),
            ],
            [
                quantiles(
                    "Time of a prediction",
                    "trainyard_predict_seconds",
                    "deployment",
                    "From the read body to the answer.",
                ),
                Panel("Revisions that answer, by process", "short", (("trainyard_served_revisions{@}", "{{pod}}"),)),
                quantiles("Time to load a model", "trainyard_model_load_seconds", "job", "To its first warm answer."),
            ],
            [
                quantiles(
                    "Wait for the model",
                    "trainyard_predict_queue_seconds",
                    "deployment",
                    "Of requests, before their batch began.",
                ),
                quantiles(
                    "Time of the model", "trainyard_predict_compute_seconds", "deployment", "For a batch of requests."
                ),
                Panel(
                    "Together in a batch, on average",
                    "short",
                    (
                        (mean("trainyard_predict_batch_requests", "deployment"), "{{deployment}} requests"),
                        (mean("trainyard_predict_batch_rows", "deployment"), "{{deployment}} rows"),
                    ),
                ),
            ],
            [
                Panel("Memory of models, by process", "bytes", (("trainyard_resident_bytes{@}", "{{pod}}"),)),
                Panel(
                    "Request log: written and dropped",
                    "reqps",
                    (
                        (rate("trainyard_request_log_written_total", "job"), "written"),
                        (rate("trainyard_request_log_dropped_total", "reason"), "dropped: {{reason}}"),
                    ),
                    "Only with SERVING_REQUEST_LOG_SHARE.",
                ),
            ],
        ],
    ),
    "platform": (
        "Trainyard: platform",
        [
            [
                Panel("Processors", "short", ((rate("process_cpu_seconds_total", "job"), "{{job}}"),)),
                Panel(
                    "Memory of a process", "bytes", (("max by (job) (process_resident_memory_bytes{@})", "{{job}}"),)
                ),
                Panel("Open files of a process", "short", (("max by (job) (process_open_fds{@})", "{{job}}"),)),
            ],
            [
                Panel(
                    "Behind a neighbour's events",
                    "s",
                    (("max by (job, source) (trainyard_event_lag_seconds{@})", "{{job}} of {{source}}"),),
                ),
                Panel(
                    "Feeds that could not be read",
                    "ops",
                    ((rate("trainyard_event_failures_total", "job, source"), "{{job}} of {{source}}"),),
                ),
                Panel(
                    "Somebody was away",
                    "ops",
                    ((rate("trainyard_dependency_failures_total", "job, dependency"), "{{job}}: {{dependency}}"),),
                ),
            ],
            [
                quantiles("Calls to neighbours", "trainyard_call_seconds", "service"),
                Panel(
                    "Age of the gateway's keys",
                    "s",
                    (("max by (pod) (trainyard_gateway_keys_age_seconds{@})", "{{pod}}"),),
                ),
                Panel(
                    "Limits shared through Redis",
                    "bool",
                    (("min by (pod) (trainyard_gateway_limits_shared{@})", "{{pod}}"),),
                ),
            ],
            [
                Panel(
                    "Removed, since nothing needed it",
                    "ops",
                    ((rate("trainyard_collected_total", "job, kind"), "{{job}} {{kind}}"),),
                ),
                Panel(
                    "Spans",
                    "ops",
                    (
                        (rate("trainyard_spans_exported_total", "job"), "{{job}}"),
                        (rate("trainyard_spans_dropped_total", "job, reason"), "{{job}} dropped: {{reason}}"),
                    ),
                ),
                Panel(
                    "Restarts",
                    "short",
                    (("sum by (job) (changes(process_start_time_seconds{@}[1h]))", "{{job}}"),),
                    "In an hour.",
                ),
            ],
        ],
    ),
}


def document(name: str) -> dict[str, Any]:
    """A dashboard as Grafana imports it."""
    title, rows = DASHBOARDS[name]
    return {
        "uid": f"trainyard-{name}",
        "title": title,
        "tags": ["trainyard"],
        "timezone": "browser",
        "schemaVersion": SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [_datasource(), _variable("namespace", ""), _variable("job", 'namespace=~"$namespace"')]
        },
        "panels": [_panel(panel, y, x, len(row)) for y, row in enumerate(rows) for x, panel in enumerate(row)],
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(label: str, where: str) -> dict[str, Any]:
    query = f"label_values(trainyard_requests_total{{{where}}}, {label})"
    return {
        "name": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": label},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }


def _panel(panel: Panel, y: int, x: int, beside: int) -> dict[str, Any]:
    width = WIDTH // beside
    return {
        "id": y * 10 + x + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "gridPos": {"h": HEIGHT, "w": width, "x": x * width, "y": y * HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 8, "showPoints": "never"}},
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": SOURCE, "expr": query.replace("@", HERE), "legendFormat": legend}
            for n, (query, legend) in enumerate(panel.queries)
        ],
    }


def text(name: str) -> str:
    return json.dumps(document(name), indent=1) + "\n"


def page(before: str) -> str:
    """The documentation with the table of what the code registers now."""
    head, found, rest = before.partition("| metric | kind | labels | |\n|---|---|---|---|\n")
    if not found:
        raise ValueError("The page has no table of metrics.")
    after = rest[rest.index("\n\n") :]
    rows = [
        f"| `{it.name}` | {it.kind} | {', '.join(f'`{label}`' for label in it.labels) or '-'} | {it.means} |"
        for it in metric_names.registered().values()
    ]
    return head + found + "\n".join(rows) + after


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for each in DASHBOARDS:
        (FOLDER / f"{each}.json").write_text(text(each))
    PAGE.write_text(page(PAGE.read_text()))
