"""Data sets: one file a set, found by looking through this folder.

`dataset` says what one declares; how images and labels are held, split and transformed is in `science.data`. A new file
here with one decorated reader is a new set.
"""
