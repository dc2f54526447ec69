"""What Prometheus reads: requests and their times by route, the release that serves, swaps that worked and failed."""

import time
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrieval.service.release_watcher import ReleaseWatcher, Standing

_GONE = 499
"""What counts for a request whose client went away before there was an answer; the usual number, by nginx."""
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The figures of one service."""

    def __init__(self, live: ReleaseWatcher) -> None:
        self.registry = CollectorRegistry()
        labels = ["route", "status"]
        self.requests = Counter("samespace_requests", "Requests answered", labels, registry=self.registry)
        self.seconds = Histogram(
            "samespace_request_seconds", "Seconds to an answer", ["route"], buckets=BUCKETS, registry=self.registry
        )
        self.registry.register(_ReleaseCollector(live))

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _ReleaseCollector(Collector):
    """Figures of the live release, read when Prometheus asks."""

    def __init__(self, live: ReleaseWatcher) -> None:
        self.live = live

    def collect(self) -> list[Metric]:
        """The figures; without a release only the counters."""
        found: list[Metric] = [
            CounterMetricFamily("samespace_release_swaps", "Releases that took another's place", self.live.swaps),
            CounterMetricFamily("samespace_release_swap_failures", "Releases not opened", self.live.failures),
            *_following(self.live.standing()),
        ]
        opened = self.live.current
        if opened is None:
            return found
        info = GaugeMetricFamily("samespace_release_info", "The release that serves", labels=["release_id", "space_id"])
        info.add_metric([opened.release_id, opened.space_id], 1)
        age = (datetime.now(UTC) - opened.release.manifest.sealed_at).total_seconds()
        return [
            *found,
            info,
            GaugeMetricFamily("samespace_release_age_seconds", "Since the release was sealed", age),
            GaugeMetricFamily("samespace_titles", "Titles served", len(opened.ids)),
            GaugeMetricFamily("samespace_members", "Members served", len(opened.members)),
        ]


def _following(standing: Standing) -> list[Metric]:
    """How far the service follows the pointer."""
    behind = GaugeMetricFamily("samespace_release_behind_seconds", "Since what is live came to be", standing.behind_s)
    if standing.heartbeat_age_s is None:
        return [behind]
    beat = ("samespace_watcher_heartbeat_age_seconds", "Since the pointer was last looked at", standing.heartbeat_age_s)
    return [behind, GaugeMetricFamily(*beat)]


class MetricsMiddleware:
    """Counts and times each request under the path of its route, so that ids never become labels."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note how it went."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), _GONE

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched").replace(":id", "")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - began)
