"""Serving: the champion as a plain diffusers folder, a continuously batching engine, the OpenAI Images API."""
