"""A file for each of the dialects that clients speak."""
