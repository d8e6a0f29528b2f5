"""Connections of the image server that slow clients cannot hold: headers and unread answers have a time limit, like bodies."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def bounded_protocol(client_seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's HTTP/1.1 protocol that cuts a connection off after `client_seconds` without a whole request head or an accepted answer."""

    class BoundedProtocol(H11Protocol):
        """Two timers per connection."""

        head_timer: asyncio.TimerHandle | None = None
        answer_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.await_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.await_head()

        def await_head(self) -> None:
            """Starts the clock when a request is due and stops it while one is being answered; more bytes never wind it back."""
            if self.cycle is not None and not self.cycle.response_complete:
                self.stop_head_timer()
            elif self.head_timer is None:
                self.head_timer = self.loop.call_later(client_seconds, self.transport.abort)

        def stop_head_timer(self) -> None:
            if self.head_timer is not None:
                self.head_timer.cancel()
            self.head_timer = None

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self.stop_head_timer()

        def pause_writing(self) -> None:
            super().pause_writing()
            self.answer_timer = self.loop.call_later(client_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.answer_timer is not None:
                self.answer_timer.cancel()
            self.answer_timer = None

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self.stop_head_timer()
            if self.answer_timer is not None:
                self.answer_timer.cancel()

    return BoundedProtocol
