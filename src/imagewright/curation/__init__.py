"""Curation: scorers write columns, one filter decides, hierarchical sampling sets the mix."""
