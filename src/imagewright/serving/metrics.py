"""Prometheus metrics of the image server, in a registry of its own so that several servers fit one process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from imagewright.serving.denoising import ImageRequest
from imagewright.serving.enhancer import Enhanced

BUCKETS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)


class ServerMetrics:
    """What operations and autoscaling read."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("imagewright_requests", "Requests by HTTP status.", ["status"], registry=self.registry)
        self.images = Counter("imagewright_images", "Images made.", registry=self.registry)
        self.latency = Histogram(
            "imagewright_image_seconds",
            "Seconds from submission to image.",
            ["steps", "size"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.enhancer = Histogram(
            "imagewright_enhancer_seconds",
            "Seconds spent on expanding a prompt, by outcome.",
            ["outcome"],
            buckets=(0.001, 0.005, *BUCKETS),
            registry=self.registry,
        )
        self.queue = Gauge("imagewright_queue_images", "Images waiting or running.", registry=self.registry)
        self.swaps = Gauge("imagewright_model_swaps", "Champions swapped in since the start.", registry=self.registry)

    def image_done(self, request: ImageRequest, seconds: float) -> None:
        """Counts one finished image. Sizes and steps are bounded by the request checks, so labels stay few."""
        width, height = request.size_px
        self.images.inc()
        self.latency.labels(steps=str(request.num_steps), size=f"{width}x{height}").observe(seconds)

    def prompt_enhanced(self, found: Enhanced) -> None:
        """Counts one prompt that was to be expanded. Outcomes are names of constraints, so labels stay few."""
        self.enhancer.labels(outcome=found.outcome).observe(found.seconds)

    def render(self) -> bytes:
        """Text exposition format."""
        return generate_latest(self.registry)
