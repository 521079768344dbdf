"""What is known of a model as one page that needs nothing else: `ebmctl evaluate MODEL --report FILE`."""
