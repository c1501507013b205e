"""The argument in pictures: one file a figure, found by looking through this folder; `shared` is what several have.

    from modescape.drawing.figure import picture
    picture("plane", results).show()

A figure answers one question, as numbers, words and a picture. No torch, no scikit-learn, no scipy; Plotly to draw.
"""
