"""Runs a compiled pipeline: on this machine, in containers, or on Kubeflow. The only package that imports kfp."""
