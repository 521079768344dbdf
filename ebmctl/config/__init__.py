"""All settings: what a recipe is, where its values come from, and what is registered by name."""
