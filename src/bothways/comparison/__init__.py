"""Any set of methods on the same rows: which is good enough, and what it costs."""
