"""Everything known about a model as one self-contained page: `ebmctl evaluate MODEL --report FILE`."""
