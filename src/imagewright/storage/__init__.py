"""Content-addressed storage: payloads by digest, records that name them, leases that keep one writer."""

from imagewright.storage.address import open_store, store_from_environment
from imagewright.storage.backend import NamedObject
from imagewright.storage.errors import LeaseLost, NameTaken, PayloadChanged, PayloadMissing, StoreAccessDenied, StoreError, StoreUnavailable
from imagewright.storage.leases import Lease
from imagewright.storage.store import Store
from imagewright.storage.tree import DvcFolder, TreeEntry

__all__ = [
    "DvcFolder",
    "Lease",
    "LeaseLost",
    "NameTaken",
    "NamedObject",
    "PayloadChanged",
    "PayloadMissing",
    "Store",
    "StoreAccessDenied",
    "StoreError",
    "StoreUnavailable",
    "TreeEntry",
    "open_store",
    "store_from_environment",
]
