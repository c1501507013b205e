"""Networks: one file an architecture, found by looking through this folder.

`architecture` says what one declares. A new file here with one decorated factory is a new network; whatever needs torch
is imported inside it, for the server knows every network and loads none. Ours are made of `science.networks`;
`building` builds any of them.
"""
