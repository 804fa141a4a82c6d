"""What a server counts, in the format of Prometheus."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        disable_created_metrics()
        self.accepted = 0  # requests that came, whatever became of them
        self.unanswered = 0  # requests that the end of the server has cut off
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time and open files

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"resnet_tl_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"resnet_tl_{name}", text, buckets=buckets, registry=self.registry)

        self.requests = counter("requests", "Requests answered.", "path", "code")
        self.rejected = counter("rejected", "Requests refused, by the limit or rule.", "reason")
        self.images = counter("images", "Images, judged or bad.", "outcome")
        self.waiting = Gauge("resnet_tl_images_waiting", "Images that are decoded or wait.", registry=self.registry)
        self.in_flight = Gauge("resnet_tl_requests_in_flight", "Requests with a body.", registry=self.registry)
        self.request_seconds = histogram("request_seconds", "Of a request with a body, its arrival included.", SECONDS)
        self.decode_seconds = histogram("decode_seconds", "Of decoding and resizing one image.", SECONDS)
        self.compute_seconds = histogram("compute_seconds", "Of the network on one batch.", SECONDS)
        self.batch_images = histogram("batch_images", "Images of a batch.", IMAGES)
