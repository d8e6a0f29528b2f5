"""What can go wrong between a job and the store, each in the one error grammar and never with a secret in it."""

from __future__ import annotations

from imagewright.errors import InputError


class StoreError(InputError):
    """The store, its address or its content is not as it must be."""


class PayloadMissing(StoreError):
    """The store holds no complete payload under this digest."""


class PayloadChanged(StoreError):
    """Stored bytes differ from their digest, or a file changed while it was being stored."""


class NameTaken(StoreError):
    """A conditional write lost its race: the name exists already, or was changed since it was read."""


class StoreUnavailable(StoreError):
    """The store did not answer, or kept answering with a server error, after every retry."""


class StoreAccessDenied(StoreError):
    """The store refuses these credentials, or may not be written."""


class LeaseLost(StoreError):
    """Somebody else holds the lease now, or it could not be renewed in time."""


class StoreMoved(StoreError):
    """The content of this store was moved to another one, which writers must use now."""
