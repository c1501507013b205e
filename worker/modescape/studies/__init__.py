"""Studies: what an experiment does with its runs beyond comparing them, one folder each, found by looking through them.

`study` holds its declaration and what can be chosen, `stages` what it does, `figure_...` its figures, `preset_...` the
experiments that are about it; other modules are what these share. What every study is: `modescape.study`.
"""
