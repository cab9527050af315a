"""Inputs that went wrong, by the kind of fault; each test says what is right."""
