"""Kubeflow components: one typed declaration per job, no logic."""
