"""Scenes, and the sampling of them, in the browser."""
