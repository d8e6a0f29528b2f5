"""Content-addressed storage: payloads by digest, records that name them, leases that keep one writer."""
