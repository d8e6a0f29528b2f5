"""What goes wrong with the local stack, in the one grammar of errors."""

from __future__ import annotations

from imagewright.errors import InputError


class StackError(InputError):
    """The local stack cannot start, stop or be found; every problem says what to do next."""
