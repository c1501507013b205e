"""Types of corruption: found by looking through this folder, a file a family, or a type where it needs much.

`corruption` says what one declares and does it to images, `pixels` holds what several have in common, `published` reads
sets that others have corrupted. A new file here with one decorated effect is a new type.
"""
