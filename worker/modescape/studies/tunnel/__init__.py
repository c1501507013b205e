"""Low-loss paths between the optima of two runs, and the triangles that they span with the origin."""
