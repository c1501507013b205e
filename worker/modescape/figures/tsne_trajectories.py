"""Where do the runs go? All checkpoints in one embedding (paper Fig 2c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modescape.drawing.figure import figure
from modescape.drawing.style import Theme
from modescape.figures.shared.embedding_figure import Embedding, EmbeddingOptions, embedding, islands, told
from modescape.results import Results

if TYPE_CHECKING:
    import plotly.graph_objects as go


@figure(
    "tsne-trajectories",
    order=40,
    title="t-SNE of trajectories",
    question="Where do the runs go?",
    summary="Joint embedding of the predictions of all checkpoints of several runs.",
    source="Fort, Hu, Lakshminarayanan 2019, Figure 2 (c)",
    paper="Fig 2",
    needs=("predict", "embed"),
    page=576,
)
def tsne_trajectories(results: Results, options: EmbeddingOptions) -> Embedding:
    return embedding(results, options, "trajectories", methods=[])


tsne_trajectories.tell(told)


@tsne_trajectories.draw
def draw(data: Embedding, theme: Theme) -> go.Figure:
    return islands(data, theme, "tsne-trajectories", [[]])
