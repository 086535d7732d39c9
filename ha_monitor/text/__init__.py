"""Foreign text: made visible where a person reads it, and rid of secrets where it is kept or written."""
