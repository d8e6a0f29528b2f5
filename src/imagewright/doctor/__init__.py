"""`imagewright doctor`: looks at the machine and the services that jobs need, and says for each what to do."""

from __future__ import annotations

from imagewright.doctor.examination import all_checks, examine
from imagewright.doctor.finding import Finding, State

__all__ = ["Finding", "State", "all_checks", "examine"]
