# %% [markdown]
# # An ensemble of another library
#
# Twenty networks of scikit-learn that differ in their seeds alone: are they different functions, and what is averaging
# them worth? Their probabilities and the true labels are all it takes. JAX, Keras and every other library whose arrays
# numpy can read go the same way.

# %%
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

import modescape as ms

images, labels = load_digits(return_X_y=True)
train, test = slice(0, 400), slice(400, None)
networks = [
    MLPClassifier((32,), learning_rate_init=0.01, max_iter=60, random_state=seed).fit(images[train], labels[train])
    for seed in range(20)
]
probabilities = np.stack([network.predict_proba(images[test]) for network in networks])

# %% [markdown]
# One call judges them: arrays [members, examples, classes], the labels, and what only we know, that they share a
# recipe.

# %%
lab = ms.analyse(probabilities, labels[test], kind="probs", recipe="same", name="scikit-learn", folder="kept")
print(lab.sentence())

# %%
lab.figure("similarity-runs").show()
lab.figure("ensembles").show()
