"""Ensembles made elsewhere: read, looked at, written.

    ensemble = read("wide-resnets.npz")         # reading.py; many files: globs.read_glob; arrays: memory.from_arrays
    for oddity in examine(ensemble).oddities:   # door.py
        print(oddity.level, oddity.sentence)
    write(ensemble, "copy.npz")                 # writing.py
    set_digest(ensemble)                        # digest.py

It knows no spec, no store, no registry and no torch. What is read stands in science p.1.
"""
