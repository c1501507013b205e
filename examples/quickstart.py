# %% [markdown]
# # Quickstart
#
# Five small networks on 8 by 8 digits: are they different functions? Half a minute at most, without any service.

# %%
import modescape as ms

lab = ms.run("quickstart", folder="quickstart")  # without `folder` it is kept in a temporary one
print(lab.sentence())

# %% [markdown]
# The claims of the paper that this experiment can answer, each with its word, interval and margin.

# %%
for told in lab.claims():
    print(f"({told.record.id}) {told.record.title}: {told.record.word} [{told.interval}]")

# %% [markdown]
# What diversity costs: every function by how far it is from the reference, and by its accuracy.

# %%
lab.figure("plane").show()

# %% [markdown]
# How alike every pair of runs is, in weights and in predictions.

# %%
lab.figure("similarity-runs").show()

# %% [markdown]
# Everything raw: predicted labels [S, N] of the five solutions, and the share on which the first two differ.

# %%
optima = lab.solutions(role="optimum")
labels = lab.labels_of(optima, "test")
print((labels[0] != labels[1]).mean())
