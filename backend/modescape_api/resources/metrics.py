"""What Prometheus reads: how much waits and for how long, what workers do and have done, how requests go.

Read with a token of any user. What workers did is counted by themselves and kept with them, so it is the same whichever
server is asked; requests and memory are those of this process.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from modescape import __version__
from modescape_api.http import asked, problems
from modescape_api.http.site import Here, Site
from modescape_api.resources import workers

router = APIRouter(tags=["service"])

_READINGS = {
    "cpu": ("modescape_worker_cpu_ratio", "Processor seconds a second of a worker."),
    "memory_bytes": ("modescape_worker_memory_bytes", "Resident memory of a worker."),
    "gpu_memory_bytes": ("modescape_worker_gpu_memory_bytes", "Memory of the card that a worker holds."),
    "gpu_memory_used_bytes": ("modescape_worker_gpu_memory_used_bytes", "Memory of a worker's card that is in use."),
    "gpu_memory_total_bytes": ("modescape_worker_gpu_memory_total_bytes", "Memory of a worker's card."),
    "gpu_busy": ("modescape_worker_gpu_busy_ratio", "Share of time in which a worker's card computes."),
}


class _Laboratory(Collector):
    def __init__(self, here: Site) -> None:
        self._here = here

    def collect(self) -> Iterator[Metric]:
        here, told = self._here, self._here.store.monitoring
        yield _gauge("modescape_build", "The version that answers.", ("version",), [((__version__,), 1)])
        yield _gauge(
            "modescape_experiments", "Experiments that are not archived.", ("status",),
            [((status,), count) for status, count in told.experiments().items()],
        )  # fmt: skip
        waiting = told.waiting()
        yield _gauge(
            "modescape_queue_stages",
            "Stages that could be worked on.",
            ("queue",),
            [((w.queue,), w.stages) for w in waiting],
        )
        yield _gauge(
            "modescape_queue_age_seconds", "How long the oldest of them could.", ("queue",),
            [((w.queue,), w.seconds) for w in waiting],
        )  # fmt: skip
        yield _gauge("modescape_stages_running", "Stages that are worked on.", (), [((), told.running())])
        yield _gauge("modescape_notices_waiting", "Messages that have still to be sent.", (), [((), told.untold())])
        yield _counter("modescape_events", "Events there ever were.", (), [((), told.events())])
        if (free := here.artifacts.free) is not None:
            yield _gauge("modescape_artifacts_free_bytes", "Free on the disk of the artifacts.", (), [((), free)])
        yield from self._workers()

    def _workers(self) -> Iterator[Metric]:
        here, rows = self._here, self._here.store.workers.all()
        alive = [row for row in rows if workers.state(here, row) in ("working", "idle")]
        states: dict[str, int] = dict.fromkeys(("working", "idle", "silent", "stopped"), 0)
        for row in rows:
            states[workers.state(here, row)] += 1
        yield _gauge("modescape_workers", "Workers.", ("state",), [((state,), n) for state, n in states.items()])
        yield _gauge(
            "modescape_worker_images_per_second", "Training images a second, as last measured.", ("worker", "network"),
            [((row.name, network), rate) for row in alive for network, rate in row.speed.items()],
        )  # fmt: skip
        for name, (metric, about) in _READINGS.items():
            yield _gauge(
                metric, about, ("worker",), [((r.name,), r.readings[name]) for r in alive if name in r.readings]
            )
        yield _counter(
            "modescape_worker_stages", "Stages that a worker has left, by how.", ("worker", "kind", "how"),
            [((row.name, kind, how), count) for row in rows for kind, done in row.tally.items()
             for how, count in done["how"].items()],
        )  # fmt: skip
        yield _counter(
            "modescape_worker_stage_seconds", "Seconds that a worker has worked on stages.", ("worker", "kind"),
            [((row.name, kind), done["seconds"]) for row in rows for kind, done in row.tally.items()],
        )  # fmt: skip


def _gauge(name: str, about: str, labels: tuple[str, ...], values: list[tuple[tuple[str, ...], float]]) -> Metric:
    return _filled(GaugeMetricFamily(name, about, labels=labels), values)


def _counter(name: str, about: str, labels: tuple[str, ...], values: list[tuple[tuple[str, ...], float]]) -> Metric:
    return _filled(CounterMetricFamily(name, about, labels=labels), values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: list[tuple[tuple[str, ...], float]]) -> Metric:
    for labels, value in values:
        family.add_metric(labels, value)
    return family


_EXAMPLE = "# HELP modescape_stages_running Stages that are worked on.\nmodescape_stages_running 2.0\n"
_TEXT: problems.Responses = {200: {"description": "Lines of numbers", "content": {"text/plain": {"example": _EXAMPLE}}}}


@router.get("/metrics", summary="What Prometheus reads", responses=_TEXT)
def metrics(here: Here) -> Response:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Laboratory(here))
    body = generate_latest(registry) + generate_latest(asked.REGISTRY)
    return Response(body, headers={"cache-control": "no-store"}, media_type=CONTENT_TYPE_LATEST)
