"""The encoders en-small and zh-small, a model directory each. `bothways` finds them by these names."""
