"""CPU, memory, disk, network and GPU figures of a job, with MLflow's own collectors and names, sent through the spool.

MLflow's monitor thread stops for good when the server fails once; this one does not ask the server.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

logger = logging.getLogger("imagewright.tracking")


class MetricsTarget(Protocol):
    def log_metrics(self, metrics: Mapping[str, Any], step: int) -> None: ...


class SystemMetrics:
    """Samples every `seconds` and logs `system/...` with the sample number as step; 0 seconds samples never."""

    def __init__(self, target: MetricsTarget, seconds: float) -> None:
        self._target, self._seconds = target, seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="system-metrics", daemon=True)
        if seconds > 0:
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def _loop(self) -> None:
        monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        try:
            monitors.append(GPUMonitor())
        except Exception as error:  # no driver or no nvidia-ml-py: MLflow raises several types
            logger.debug("no GPU figures: %s", error)
        step = 0
        while not self._stopped.wait(self._seconds):
            figures: dict[str, float] = {}
            for monitor in monitors:
                monitor.collect_metrics()
                figures |= monitor.aggregate_metrics()
                monitor.clear_metrics()
            self._target.log_metrics({f"system/{name}": value for name, value in figures.items()}, step)
            step += 1
