"""The shipped encoders, a model directory each, and the recipe that made them; `formats.hub` finds them by name."""
