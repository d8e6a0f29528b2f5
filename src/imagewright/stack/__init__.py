"""The local stack: an S3 server (SeaweedFS) and an MLflow server as real processes, under every job that runs without a cluster."""

from __future__ import annotations

from imagewright.stack.errors import StackError
from imagewright.stack.home import Home, find_home
from imagewright.stack.local import ServiceStatus, StackEnvironment, environment, start, status, stop

__all__ = ["Home", "ServiceStatus", "StackEnvironment", "StackError", "environment", "find_home", "start", "status", "stop"]
