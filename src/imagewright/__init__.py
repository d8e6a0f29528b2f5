"""Imagewright: trains, aligns, distils, evaluates and ships ERNIE-Image-class text-to-image models."""

__version__ = "0.1.0"
