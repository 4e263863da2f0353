"""Every metric of the worker, with its meaning; there is no other place that makes one."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from clickpath.policy import Policy
from serving.cache_counts import CacheCounts
from serving.call_counts import BREAKER_STATES, CallCounts
from stream.batch.progress import StandbyProgress
from stream.tally import Tally


@dataclass(frozen=True, slots=True)
class Described:
    """A metric as its readers know it.

    Attributes:
        name: The name in queries; of a histogram, the name before `_bucket`, `_sum` and `_count`.
        type: "counter", "gauge" or "histogram".
        labels: Names of its labels.
        meaning: What it says, in a sentence.
    """

    name: str
    type: str
    labels: tuple[str, ...]
    meaning: str


class ModelGauges:
    """Which models decide, and what is known of a candidate; made by `gauge`."""

    def __init__(self, gauge: Callable[..., Gauge]) -> None:
        self.share = gauge(
            "model_share",
            "Share of the users for whom a model decides; role is champion or candidate.",
            *("model", "role"),
        )
        self.paths = gauge(
            "model_paths", "Paths that a model at work has scored since it was loaded.", "model"
        )
        self.candidate = gauge(
            "candidate",
            "What this worker knows of a candidate beside the champion, by figure; "
            "docs/models.md explains them.",
            "figure",
        )
        self.drift = gauge(
            "drift",
            "How far live inputs and scores are from the model's reference, by figure; "
            "docs/models.md explains them.",
            "figure",
        )
        self.rolled_back = gauge(
            "rolled_back", "1 while the newest record on the models topic is a rollback."
        )
        self.refused = gauge(
            "model_refused", "1 while the model that the models topic names cannot be loaded here."
        )


class StandbyMetrics:
    """Partitions of others whose states are followed here; made by `gauge`."""

    def __init__(self, gauge: Callable[..., Gauge]) -> None:
        self._partitions = gauge(
            "standby_partitions", "Partitions of other workers whose states are followed here."
        )
        self._lag = gauge(
            "standby_lag_records",
            "Records of the changelog that a standby does not have yet, by partition.",
            "partition",
        )
        self._users = gauge("standby_users", "Users of other workers whose state is kept here too.")

    def update(self, standbys: Mapping[tuple[str, int], StandbyProgress]) -> None:
        """Brings them up to date."""
        self._partitions.set(len(standbys))
        self._users.set(sum(each.keys for each in standbys.values()))
        self._lag.clear()
        for (_, number), standby in standbys.items():
            if standby.lag_records is not None:
                self._lag.labels(number).set(standby.lag_records)


class OddInput:
    """What is odd about records that are events all the same; made by `counter`."""

    def __init__(self, counter: Callable[..., Counter]) -> None:
        self.personal = counter(
            "personal_fields",
            "Fields that looked like personal data and were left out, by kind.",
            "kind",
        )
        self.placement = counter(
            "placement_samples",
            "Records looked at, by where they lay: placed, elsewhere than the key says, no_key.",
            "where",
        )


class CapMetrics:
    """What the policy lets pass, and what it holds back; made by `counter` and `gauge`."""

    def __init__(self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]) -> None:
        self.held_back = counter(
            "held_back",
            "Eligible interventions that were not allowed, by kind and by what held them back.",
            *("kind", "reason"),
        )
        self._caps = gauge(
            "cap",
            "Most interventions of a kind to one user within so many seconds, by the policy; "
            "kind all is for all together.",
            *("kind", "per_s"),
        )

    def tell(self, policy: Policy) -> None:
        """Brings the caps up to date."""
        self._caps.clear()
        for name, caps in (
            ("all", policy.caps),
            *((each.name, each.caps) for each in policy.kinds),
        ):
            for cap in caps:
                self._caps.labels(name, cap.per_ms // 1000).set(cap.most)


class CacheMetrics:
    """What is kept of users' paths; made by `counter` and `gauge`."""

    def __init__(self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]) -> None:
        self._hits = counter("cache_hits", "Paths that went on from what was kept of their user.")
        self._misses = counter("cache_misses", "Paths that were followed from their beginning.")
        self._evictions = counter("cache_evictions", "Users who made room for others in the cache.")
        self._users = gauge("cache_users", "Users of whom something is kept.")
        self._bytes = gauge("cache_bytes", "What is kept of users, in bytes.")
        self._seen = CacheCounts()

    def update(self, counts: CacheCounts) -> None:
        """Brings them up to date; `counts` are since the start."""
        seen, self._seen = self._seen, counts
        self._hits.inc(counts.hits - seen.hits)
        self._misses.inc(counts.misses - seen.misses)
        self._evictions.inc(counts.evictions - seen.evictions)
        self._users.set(counts.entries)
        self._bytes.set(counts.size_bytes)


class Metrics:
    """The worker's metrics, in a registry of its own; `described` lists them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.described: list[Described] = []

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            self.described.append(Described(f"clickpath_{name}_total", "counter", labels, meaning))
            return Counter(f"clickpath_{name}", meaning, labels, registry=self.registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            self.described.append(Described(f"clickpath_{name}", "gauge", labels, meaning))
            return Gauge(f"clickpath_{name}", meaning, labels, registry=self.registry)

        def histogram(name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
            self.described.append(Described(f"clickpath_{name}", "histogram", (), meaning))
            return Histogram(f"clickpath_{name}", meaning, buckets=buckets, registry=self.registry)

        self._events = counter("events", "Records read, by what became of them.", "outcome")
        self._dead = counter("dead_letters", "Records that are no event, by reason.", "reason")
        self._decisions = counter("decisions", "Decisions, by reason.", "reason")
        self._sent = counter("interventions", "Interventions sent, by kind.", "kind")
        self._calls = counter("inference_calls", "Questions to the model, each of many paths.")
        self._paths = counter("inference_paths", "Paths that the model was asked about.")
        self._avoided = counter(
            "inference_avoided", "Accepted events that needed no scores, by reason.", "reason"
        )
        self._fallbacks = counter(
            "fallbacks", "Decisions without the scores that they needed, by reason.", "reason"
        )
        self._sent_calls = counter(
            "triton_calls", "Calls to Triton, retries among them, by outcome.", "outcome"
        )
        self._retries = counter("triton_retries", "Calls to Triton that were sent once more.")
        self._refused = counter(
            "triton_refused", "Questions that the circuit breaker kept from Triton."
        )
        self._breaker = gauge(
            "triton_breaker", "1 for the state in which the circuit breaker is.", "state"
        )
        self._seen = CallCounts()
        self._cache = CacheMetrics(counter, gauge)
        self.caps = CapMetrics(counter, gauge)
        self._unknown = counter("unknown_types", "Accepted events of an unknown type.")
        self._odd = OddInput(counter)
        self.chunk_seconds = histogram(
            "chunk_seconds",
            "Time from the start of a chunk to the acknowledgement of its outputs.",
            (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.lag_events = gauge(
            "lag_events", "Records not yet handled, by partition of the clicks.", "partition"
        )
        self.lag_seconds = gauge(
            "lag_seconds",
            "Age of the last record handled, or of the first one taken, while others wait.",
            "partition",
        )
        self.commit_age_seconds = gauge("commit_age_seconds", "Time since the last commit.")
        self.users = gauge("users", "Users whose state this worker keeps.")
        self.standbys = StandbyMetrics(gauge)
        self.ready = gauge("ready", "1 when states are recovered and partitions assigned.")
        self.archive = gauge("archive", "1 while the archive's reader runs beside this worker.")
        self.archive_wanted = gauge(
            "archive_wanted", "1 where the settings name an archive beside this worker."
        )
        self.models = ModelGauges(gauge)
        self.info = gauge(
            "info", "Always 1; the digests that decide.", "model", "policy", "encoder", "version"
        )

    def count(self, tally: Tally) -> None:
        """Adds what happened to one chunk."""
        outcomes = {
            "accepted": tally.accepted,
            "duplicate": tally.duplicates,
            "late": tally.late,
            "dead_letter": tally.dead_letters.total(),
            "skipped": tally.skipped,
            "erasure": tally.erasures,
        }
        for metric, counts in (
            (self._events, Counts(outcomes)),
            (self._dead, tally.dead_letters),
            (self._decisions, tally.decisions),
            (self._sent, tally.interventions),
            (self._avoided, tally.inference_avoided),
            (self._fallbacks, tally.fallbacks),
            (self._odd.personal, tally.personal),
        ):
            for label, count in counts.items():
                if count:
                    metric.labels(label).inc(count)
        for labels, count in tally.held_back.items():
            self.caps.held_back.labels(*labels).inc(count)
        self._calls.inc(tally.inference_calls)
        self._paths.inc(tally.inference_paths)
        self._unknown.inc(tally.unknown_types)

    def count_calls(self, counts: CallCounts) -> None:
        """Brings the metrics of calls over the network up to date; `counts` are since the start."""
        seen, self._seen = self._seen, replace(counts, calls=Counts(counts.calls))
        for outcome, count in counts.calls.items():
            self._sent_calls.labels(outcome).inc(count - seen.calls[outcome])
        self._retries.inc(counts.retries - seen.retries)
        self._refused.inc(counts.refused - seen.refused)
        for state in BREAKER_STATES:
            self._breaker.labels(state).set(state == counts.breaker)

    def count_placement(self, found: Counts[str]) -> None:
        """Adds where some records of a chunk lay."""
        for where, count in found.items():
            self._odd.placement.labels(where).inc(count)

    def count_cache(self, counts: CacheCounts) -> None:
        """Brings the metrics of the cache up to date; `counts` are since the start."""
        self._cache.update(counts)

    def page(self) -> bytes:
        """The metrics in Prometheus' text format."""
        page: bytes = generate_latest(self.registry)
        return page
