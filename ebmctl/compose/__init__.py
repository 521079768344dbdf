"""Concepts combined when an image is made: the language, and the energy that it says."""
