"""For each alert rule, series that make it fire and series that must not.

A case is `{series: values}` in promtool's notation, one value a minute; it is looked at after
`AT_MINUTES`. A case that must not fire is near the threshold, or the ordinary state of things.
"""

from __future__ import annotations

from typing import NamedTuple

AT_MINUTES = 120

Series = dict[str, str]


class Case(NamedTuple):
    """What one rule is tested with."""

    fires: tuple[Series, ...]
    silent: tuple[Series, ...]


def _always(value: float) -> str:
    return f"{value}x{AT_MINUTES}"


def _grows(by: float) -> str:
    return f"0+{by}x{AT_MINUTES}"


def _worker(metric: str, value: str, labels: str = "") -> Series:
    more = f",{labels}" if labels else ""
    return {f'clickpath_{metric}{{instance="w1",job="clickpath"{more}}}': value}


def _outcomes(accepted: int, name: str, count: int) -> Series:
    return _worker("events_total", _grows(accepted), 'outcome="accepted"') | _worker(
        "events_total", _grows(count), f'outcome="{name}"'
    )


def _lag(seconds: str) -> Series:
    return _worker("lag_seconds", seconds, 'partition="3"')


def _chunks(under_5_s: int, in_all: int) -> Series:
    return {
        f'clickpath_chunk_seconds_bucket{{job="clickpath",le="{le}"}}': _grows(count)
        for le, count in (("5", under_5_s), ("10", in_all), ("+Inf", in_all))
    }


def _info(instance: str, policy: str, model: str = "m") -> Series:
    labels = f'instance="{instance}",job="clickpath",model="{model}",policy="{policy}",encoder="e"'
    return {f"clickpath_info{{{labels}}}": _always(1)}


def _decisions(fallbacks: int, reason: str = "predictor_timeout") -> Series:
    return _worker("decisions_total", _grows(100), 'reason="sent"') | _worker(
        "fallbacks_total", _grows(fallbacks), f'reason="{reason}"'
    )


def _sends(coupons: str, clicks: str | None = None) -> Series:
    return _worker("interventions_total", coupons, 'kind="coupon"') | _worker(
        "events_total", clicks or _grows(1_000), 'outcome="accepted"'
    )


def _unreadable(values: str, reason: str = "bad_checksum") -> Series:
    return _worker("dead_letters_total", values, f'reason="{reason}"')


def _standby(partitions: int, lag: str | None) -> Series:
    series = _worker("standby_partitions", _always(partitions))
    if lag is not None:
        series |= _worker("standby_lag_records", lag, 'partition="3"')
    return series


def _archive(runs: int, wanted: int) -> Series:
    return _worker("archive", _always(runs)) | _worker("archive_wanted", _always(wanted))


def _placed(placed: int, *, elsewhere: int, no_key: int) -> Series:
    counts = {"placed": placed, "elsewhere": elsewhere, "no_key": no_key}
    series: Series = {}
    for where, count in counts.items():
        series |= _worker("placement_samples_total", _grows(count), f'where="{where}"')
    return series


def _breaker(state: str) -> Series:
    series: Series = {}
    for each in ("closed", "half-opened", "opened"):
        series |= _worker("triton_breaker", _always(int(each == state)), f'state="{each}"')
    return series


def _purchases(*, excess: float, sessions: int) -> Series:
    return _worker("candidate", _always(excess), 'figure="purchase_log_loss_excess"') | _worker(
        "candidate", _always(sessions), 'figure="sessions"'
    )


def _share(values: str) -> Series:
    return _worker("model_share", values, 'role="candidate"')


def _candidate(*, psi: float, pairs: int) -> Series:
    return _worker("candidate", _always(psi), 'figure="psi"') | _worker(
        "candidate", _always(pairs), 'figure="pairs"'
    )


CASES: dict[str, Case] = {
    "ClickpathDown": Case(
        fires=({}, {'up{job="other"}': _always(1)}),
        silent=(_info("w1", "p"),),
    ),
    "ClickpathNotReady": Case(
        fires=(_worker("ready", _always(0)),),
        silent=(
            _worker("ready", _always(1)),
            # A rebalance of five minutes, just now.
            _worker("ready", f"1x{AT_MINUTES - 5} 0x5"),
        ),
    ),
    "ClickpathLagging": Case(
        fires=(_lag(_always(61)),),
        silent=(_lag(_always(60)), _lag(f"0x{AT_MINUTES - 3} 90x3")),
    ),
    "ClickpathFarBehind": Case(fires=(_lag(_always(601)),), silent=(_lag(_always(599)),)),
    "ClickpathBacklogGrows": Case(
        fires=(_worker("lag_events", f"9000+100x{AT_MINUTES}", 'partition="3"'),),
        silent=(
            # Much, but it becomes less; it grows, but is little.
            _worker("lag_events", f"900000-100x{AT_MINUTES}", 'partition="3"'),
            _worker("lag_events", _grows(1), 'partition="3"'),
        ),
    ),
    "ClickpathNotCommitting": Case(
        fires=(_worker("commit_age_seconds", _always(61)),),
        silent=(_worker("commit_age_seconds", _always(3)),),
    ),
    "ClickpathSlowChunks": Case(
        fires=(_chunks(90, 100),), silent=(_chunks(100, 100), _chunks(995, 1000))
    ),
    "ClickpathDeadLetters": Case(
        fires=(_outcomes(980, "dead_letter", 20),),
        silent=(_outcomes(995, "dead_letter", 5), _outcomes(900, "late", 100)),
    ),
    "ClickpathUnreadableBatches": Case(
        # The third is the first that this worker ever met, 20 minutes ago.
        fires=(
            _unreadable(_grows(1)),
            _unreadable(f"3x{AT_MINUTES - 20} 4x20", "bad_batch"),
            _unreadable(f"_x{AT_MINUTES - 20} 1x19", "bad_compression"),
        ),
        # The second was mended 90 minutes ago.
        silent=(
            _unreadable(_grows(9), "not_json"),
            _unreadable(f"_x{AT_MINUTES - 90} 1x89"),
            _unreadable(_always(3)),
        ),
    ),
    "ClickpathLateEvents": Case(
        fires=(_outcomes(970, "late", 30),),
        silent=(_outcomes(990, "late", 10), _outcomes(900, "dead_letter", 100)),
    ),
    "ClickpathUnknownTypes": Case(
        fires=(_outcomes(100, "late", 0) | _worker("unknown_types_total", _grows(21)),),
        silent=(_outcomes(100, "late", 0) | _worker("unknown_types_total", _grows(19)),),
    ),
    "ClickpathFallbacks": Case(
        fires=(_decisions(6),),
        # Without a model by intention every decision falls back.
        silent=(_decisions(4), _decisions(100, reason="no_model")),
    ),
    "ClickpathNothingSent": Case(
        fires=(
            _decisions(0),
            _decisions(0) | _worker("interventions_total", _always(7), 'kind="coupon"'),
        ),
        silent=(
            _decisions(0) | _worker("interventions_total", _grows(1), 'kind="coupon"'),
            _worker("decisions_total", _grows(10), 'reason="sent"'),
        ),
    ),
    "ClickpathSendsMore": Case(
        fires=(_sends(f"0+1x{AT_MINUTES - 30} {AT_MINUTES}+40x30"),),
        silent=(
            _sends(_grows(40)),
            # Twice as many; and many times as many, of few.
            _sends(f"0+20x{AT_MINUTES - 30} {20 * AT_MINUTES}+40x30"),
            _sends(f"0+0x{AT_MINUTES - 30} 0+3x30"),
            # The shop has more shoppers, too.
            _sends(
                f"0+1x{AT_MINUTES - 30} {AT_MINUTES}+40x30",
                f"0+100x{AT_MINUTES - 30} {100 * AT_MINUTES}+4000x30",
            ),
        ),
    ),
    "ClickpathArchiveDown": Case(fires=(_archive(0, 1),), silent=(_archive(1, 1), _archive(0, 0))),
    "ClickpathWorkersDisagree": Case(
        fires=(_info("w1", "p") | _info("w2", "q"),),
        silent=(_info("w1", "p") | _info("w2", "p", model="candidate"),),
    ),
    "ClickpathModelRolledBack": Case(
        fires=(_worker("rolled_back", _always(1)),),
        silent=(_worker("rolled_back", _always(0)),),
    ),
    "ClickpathModelRefused": Case(
        fires=(_worker("model_refused", _always(1)),),
        silent=(_worker("model_refused", _always(0)),),
    ),
    "ClickpathDrift": Case(
        fires=(_worker("drift", _always(0.26), 'figure="psi_price"'),),
        silent=(
            _worker("drift", _always(0.24), 'figure="psi_price"'),
            _worker("drift", _always(0.9), 'figure="unknown_items"'),
        ),
    ),
    "ClickpathSplitPaths": Case(
        fires=(_placed(97, elsewhere=3, no_key=0), _placed(97, elsewhere=0, no_key=3)),
        silent=(_placed(100, elsewhere=0, no_key=0), _placed(995, elsewhere=5, no_key=0)),
    ),
    "ClickpathTritonLeftAlone": Case(
        fires=(_breaker("opened"), _breaker("half-opened")),
        # The second is a worker with its model inside.
        silent=(_breaker("closed"), _worker("ready", _always(1))),
    ),
    "ClickpathCandidateDrifts": Case(
        fires=(_candidate(psi=0.3, pairs=100),),
        silent=(_candidate(psi=0.2, pairs=5_000), _candidate(psi=0.9, pairs=20)),
    ),
    "ClickpathCandidateMissesPurchases": Case(
        fires=(_purchases(excess=0.01, sessions=300),),
        silent=(_purchases(excess=0.001, sessions=9_000), _purchases(excess=0.2, sessions=100)),
    ),
    "ClickpathCandidateWaits": Case(
        fires=(_share(_always(0)), _share(_always(1))),
        # The second began half an hour ago.
        silent=(_worker("ready", _always(1)), _share(f"_x{AT_MINUTES - 30} 0x30")),
    ),
    "ClickpathStandbyBehind": Case(
        # The second has never read: no lag is known.
        fires=(_standby(2, _always(10_001)), _standby(2, None)),
        silent=(
            _standby(2, _always(10_000)),
            _standby(0, None),
            # A rebalance just now; and one whose lag comes and goes.
            _standby(2, f"5x{AT_MINUTES - 10} 90000x10"),
            _standby(2, " ".join(["90000x9 0"] * (AT_MINUTES // 10))),
        ),
    ),
    "ClickpathPersonalFields": Case(
        fires=(_worker("personal_fields_total", _grows(1), 'kind="email"'),),
        silent=(_worker("personal_fields_total", _always(7), 'kind="email"'),),
    ),
}
