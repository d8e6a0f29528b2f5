"""Judges of images: text readers, question answerers, and how far each can be trusted."""
