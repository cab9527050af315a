"""File formats of others; their names stay in here, as data tables."""
