"""Ways to other functions than a run's own: one file a method, found by looking through this folder.

`method` says what one is, `sampling` how strong its samples are, `trained` what one that trains for itself promises.
A new file here with one decorated function is a new method, in form, plan, figures and tests.
"""
