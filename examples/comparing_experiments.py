# %% [markdown]
# # Comparing experiments
#
# Is a wider network merely better, or do its runs also become more alike? Two small experiments on 8 by 8 digits, four
# runs each, side by side: half a minute on a laptop, without any service.

# %%
import modescape as ms

home = "comparing"  # both are kept in this folder
narrow = {
    "data": {"dataset": "digits", "train_images": 400, "test_images": 300, "input_scale": "unit"},
    "network": {"architecture": "mlp", "options": {"first": 32, "second": 16}},
    "training": {"epochs": 8, "batch_size": 50, "learning_rate": 0.005},
    "ensemble": {"runs": 4},
}
wide = {**narrow, "network": {"architecture": "mlp", "options": {"first": 128, "second": 64}}}

# %%
a = ms.run(narrow, folder=home, name="Narrow")
b = ms.run(wide, folder=home, name="Wide")

# %% [markdown]
# Every number with its 95 % interval over runs, the differences with Welch's, the claims, and in what the specs differ.

# %%
found = ms.compare(a, b)
print(found)

# %% [markdown]
# One number as a figure, and all of them as rows (`pandas.DataFrame(table.rows, columns=table.columns)`).

# %%
found.figure("disagreement").show()

# %%
table = found.table()
print(*table.columns, sep="  ")
for row in table.rows:
    print(*row, sep="  ")

# %% [markdown]
# Any figure of each, by itself: how alike every pair of runs is, in weights and in predictions.

# %%
for lab in (a, b):
    lab.figure("similarity-runs").show()

# %% [markdown]
# Later, in another notebook, both are found again by name; and every number that the paper prints stands beside the
# nearest experiments there are, with what differs between the two settings.

# %%
print(ms.compare("narrow", "wide", folder=home).number("disagreement").differences[1])
print(ms.paper(folder=home))
