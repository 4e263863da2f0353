"""The dashboard for Grafana, as the JSON that it imports.

Panels stand in rows, from left to right; a row of the table below is a row of the screen. Queries
take the job and the time between two scrapes from Grafana's variables.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

#: Columns of Grafana's grid.
_COLUMNS: Final = 24

_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

#: How a query is narrowed down to what was chosen above the panels.
_JOB: Final = 'job=~"$job"'


#: The figures of a candidate that are compared with a bound.
_COMPARED: Final = "psi|agreement|slowdown|(purchase_|leave_)?(log_loss|calibration)_excess"
_FIGURES: Final = f'figure=~"{_COMPARED}"'


class Panel(NamedTuple):
    """One panel.

    Attributes:
        title: What it shows.
        unit: Grafana's name of the unit.
        queries: Pairs of an expression and the legend of its series. `[]` stands for the job's
            selector and `[~]` for the range of a rate.
        kind: Grafana's type of panel.
        about: What to make of it.
    """

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]
    kind: str = "timeseries"
    about: str = ""


def _rate(metric: str, label: str) -> tuple[str, str]:
    return f"sum by ({label}) (rate(clickpath_{metric}[][~]))", f"{{{{{label}}}}}"


def _quantile(share: float) -> tuple[str, str]:
    rate = "sum by (le) (rate(clickpath_chunk_seconds_bucket[][~]))"
    return f"histogram_quantile({share}, {rate})", f"p{share * 100:.0f}"


_ROWS: Final[Sequence[tuple[str, int, Sequence[Panel]]]] = (
    (
        "Now",
        4,
        (
            Panel("Clicks", "cps", [("sum(rate(clickpath_events_total[][~]))", "")], "stat"),
            Panel("Lag", "s", [("max(clickpath_lag_seconds[])", "")], "stat"),
            Panel(
                "Interventions",
                "cpm",
                [("60 * sum(rate(clickpath_interventions_total[][~]))", "")],
                "stat",
            ),
            Panel(
                "Without scores",
                "percentunit",
                [
                    (
                        "sum(rate(clickpath_fallbacks_total[][~]))"
                        " / sum(rate(clickpath_decisions_total[][~]))",
                        "",
                    )
                ],
                "stat",
                "Share of decisions that lacked the scores that they needed.",
            ),
            Panel("Workers ready", "none", [("sum(clickpath_ready[])", "")], "stat"),
            Panel("Users", "short", [("sum(clickpath_users[])", "")], "stat"),
        ),
    ),
    (
        "What becomes of the clicks",
        8,
        (
            Panel("Records by outcome", "cps", [_rate("events_total", "outcome")]),
            Panel("Decisions by reason", "cps", [_rate("decisions_total", "reason")]),
            Panel("Interventions by kind", "cps", [_rate("interventions_total", "kind")]),
        ),
    ),
    (
        "What users get",
        8,
        (
            Panel(
                "Sent in a day, by kind",
                "short",
                [("sum by (kind) (increase(clickpath_interventions_total[][1d]))", "{{kind}}")],
                about="What a budget of the shop is to be compared with; caps are of each user.",
            ),
            Panel(
                "Sent for each click, by kind",
                "percentunit",
                [
                    (
                        "sum by (kind) (rate(clickpath_interventions_total[][~]))"
                        " / on () group_left"
                        f' sum(rate(clickpath_events_total{{{_JOB}, outcome="accepted"}}[~]))',
                        "{{kind}}",
                    )
                ],
            ),
            Panel(
                "Held back, by kind and reason",
                "cps",
                [
                    (
                        "sum by (kind, reason) (rate(clickpath_held_back_total[][~]))",
                        "{{kind}}: {{reason}}",
                    )
                ],
                about="Eligible interventions that a cap, a cool-down or missing scores held back.",
            ),
            Panel(
                "Caps of the policy",
                "none",
                [("max by (kind, per_s) (clickpath_cap[])", "{{kind}} in {{per_s}} s")],
                about="Most interventions to one user; a step here is a new policy.",
            ),
        ),
    ),
    (
        "Keeping up",
        8,
        (
            Panel(
                "Lag by partition",
                "s",
                [("max by (partition) (clickpath_lag_seconds[])", "{{partition}}")],
                about="Age of the last click handled while others wait. One partition alone is a"
                " hot user or a stuck worker; all together are too few workers or a slow model.",
            ),
            Panel(
                "Clicks that wait",
                "short",
                [("sum by (partition) (clickpath_lag_events[])", "{{partition}}")],
            ),
            Panel("Time of a chunk", "s", [_quantile(0.5), _quantile(0.99)]),
            Panel(
                "Time since the last commit",
                "s",
                [("max by (instance) (clickpath_commit_age_seconds[])", "{{instance}}")],
            ),
        ),
    ),
    (
        "The model",
        8,
        (
            Panel(
                "Paths scored",
                "cps",
                [
                    (
                        "sum by (instance) (rate(clickpath_inference_paths_total[][~]))",
                        "{{instance}}",
                    )
                ],
            ),
            Panel(
                "Paths in a call",
                "short",
                [
                    (
                        "sum(rate(clickpath_inference_paths_total[][~]))"
                        " / sum(rate(clickpath_inference_calls_total[][~]))",
                        "paths",
                    )
                ],
            ),
            Panel("Scores not needed", "cps", [_rate("inference_avoided_total", "reason")]),
            Panel("Scores missing", "cps", [_rate("fallbacks_total", "reason")]),
        ),
    ),
    (
        "Versions, and Triton",
        8,
        (
            Panel(
                "Users by model",
                "percentunit",
                [
                    (
                        "avg by (role, model) (clickpath_model_share[])",
                        "{{role}} {{model}}",
                    )
                ],
                about="Empty where no model repository is set.",
            ),
            Panel(
                "Candidate beside champion",
                "short",
                [(f"max by (figure) (clickpath_candidate{{{_JOB}, {_FIGURES}}})", "{{figure}}")],
                about="Empty while no candidate is tried. docs/models.md explains the figures.",
            ),
            Panel(
                "Calls to Triton",
                "cps",
                [_rate("triton_calls_total", "outcome")],
                about="Empty where models are inside the workers.",
            ),
            Panel(
                "Workers that leave Triton alone",
                "none",
                [
                    (
                        f'sum by (state) (clickpath_triton_breaker{{{_JOB}, state!="closed"}})',
                        "{{state}}",
                    )
                ],
            ),
        ),
    ),
    (
        "Input and versions",
        8,
        (
            Panel("Dead letters by reason", "cps", [_rate("dead_letters_total", "reason")]),
            Panel(
                "Events of unknown type",
                "percentunit",
                [
                    (
                        "sum(rate(clickpath_unknown_types_total[][~]))"
                        " / sum(rate(clickpath_events_total[][~]))",
                        "share",
                    )
                ],
            ),
            Panel(
                "Where clicks lie",
                "cps",
                [_rate("placement_samples_total", "where")],
                about="A sample. Anything but `placed` is a producer that splits paths of users.",
            ),
            Panel(
                "Archives running, and wanted",
                "none",
                [
                    ("sum(clickpath_archive[])", "running"),
                    ("sum(clickpath_archive_wanted[])", "wanted"),
                ],
            ),
            Panel(
                "What decides",
                "none",
                [
                    (
                        "count by (version, model, policy, encoder) (clickpath_info[])",
                        "{{version}}, model {{model}}, policy {{policy}}, encoder {{encoder}}",
                    )
                ],
                about="Workers by version and digests. More than one line outside of a rollout"
                " means that users are decided on differently by partition.",
            ),
        ),
    ),
)


def dashboard_json() -> str:
    """The dashboard, as text."""
    board = {
        "uid": "clickpath",
        "title": "Clickpath",
        "tags": ["clickpath"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": _variables()},
        "panels": [*_panels()],
    }
    return json.dumps(board, indent=1) + "\n"


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {
            "name": "job",
            "label": "Job",
            "type": "query",
            "datasource": _DATASOURCE,
            "query": "label_values(clickpath_info, job)",
            "refresh": 2,
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "current": {"text": "All", "value": "$__all"},
        },
    ]


def _panels() -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for title, height, panels in _ROWS:
        number += 1
        place = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": title, "gridPos": place, "panels": []}
        edges = [n * _COLUMNS // len(panels) for n in range(len(panels) + 1)]
        for left, right, panel in zip(edges, edges[1:], panels, strict=False):
            number += 1
            place = {"x": left, "y": y + 1, "w": right - left, "h": height}
            yield {"id": number, "gridPos": place, **_body(panel)}
        y += height + 1


def _body(panel: Panel) -> dict[str, Any]:
    custom = {"fillOpacity": 10, "showPoints": "never"} if panel.kind == "timeseries" else {}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _DATASOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": custom},
            "overrides": [],
        },
        "targets": [
            {
                "refId": "ABCDEFGH"[n],
                "datasource": _DATASOURCE,
                "expr": _completed(expression),
                "legendFormat": legend or "__auto",
            }
            for n, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _completed(expression: str) -> str:
    return expression.replace("[~]", "[$__rate_interval]").replace("[]", f"{{{_JOB}}}")
