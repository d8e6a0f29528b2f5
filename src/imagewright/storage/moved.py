"""What is left in a store whose content was moved elsewhere: a sign that stops writers who still have the old address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from imagewright.config.base import Section
from imagewright.errors import Problem
from imagewright.storage.errors import StoreError, StoreMoved

if TYPE_CHECKING:
    from imagewright.storage.store import Store

PREFIX = "migrations/"
TO, FROM = f"{PREFIX}to", f"{PREFIX}from"


class MoveSign(Section):
    """Lies in the source under `migrations/to`, and in the target under `migrations/from`."""

    url: str
    """Address of the other store, with its endpoint and without credentials."""
    complete: bool = False
    """Whether the target is the store now."""


def read_sign(store: Store, name: str) -> MoveSign | None:
    """The sign under this name, or None. Raises StoreError when it is damaged."""
    found = store.get_named(name)
    if found is None:
        return None
    try:
        return MoveSign.model_validate_json(found.data)
    except ValidationError as error:
        raise StoreError(Problem(name, "is not the sign of a move", store.url, "delete this object and migrate again")) from error


def write_sign(store: Store, name: str, sign: MoveSign) -> None:
    """Put a sign up, or change what it says."""
    store.put_named(name, sign.model_dump_json().encode())


def refuse_moved(store: Store) -> None:
    """Raise StoreMoved when the store's content lies elsewhere now: what is written here would be lost."""
    sign = read_sign(store, TO)
    if sign is not None:
        fix = "set IMAGEWRIGHT_STORE_URL, AWS_ENDPOINT_URL and the credentials to those of the new store"
        raise StoreMoved(Problem("store.url", f"was moved to {sign.url}", store.url, fix))
