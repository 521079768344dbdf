"""Datasets that the package draws itself."""
