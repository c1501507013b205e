"""One typed surface over a home and a running server: `modescape.open`, `modescape.connect`, and the commands on it.

`workspace` is what users hold; it asks a `source`, of which there are two: `here` (a home's store) and `http` (a
server). Both give the documents of the REST interface, which are read into the same records, so that what a notebook
says does not depend on where the experiments are.
"""
