"""Concepts combined at sampling time: the language of expressions, and their energies."""
