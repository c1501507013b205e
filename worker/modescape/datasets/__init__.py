"""Data sets: one file a set, found by looking through this folder.

`dataset` says what one declares. A new file here with one decorated reader is a new set.

`here` says what is on this machine and fetches what is not, `loading` reads a set, `splitting` says which of its images
train, validate and test, `preview` shows the first ones. How images and labels
are held and transformed is in `science.data`. All but the `load` needs numpy and Pillow only, so the web process can
describe any set without loading torch. Nothing here downloads by itself: `fetch` does, when a person asks for it, and
checks what came. Only CIFAR has pickles; torchvision reads them, and `own_test` the test labels alone, each file's
checksum having been verified.
"""
