"""Do subspace samples leave their run? Trajectories and samples in one embedding (paper Fig 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modescape.drawing.figure import figure
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.style import Theme
from modescape.figures.shared.embedding_figure import Embedding, SampleOptions, embedding, islands, told
from modescape.records import Group
from modescape.results import Results

if TYPE_CHECKING:
    import plotly.graph_objects as go


@figure(
    "tsne-samples",
    order=43,
    title="t-SNE of subspace samples",
    question="Do subspace samples leave their run?",
    summary="Joint embedding of the predictions of trajectories and of the samples around their optima.",
    source="Fort, Hu, Lakshminarayanan 2019, Figure 4",
    paper="Fig 4",
    needs=("predict", "sample", "embed"),
    page=576,
)
def tsne_samples(results: Results, options: SampleOptions) -> Embedding:
    if not results.spec.methods:
        raise FigureNotReady("no subspace methods in this spec")
    return embedding(results, options, "samples", methods=options.methods_of(results))


tsne_samples.tell(told)


@tsne_samples.draw
def draw(data: Embedding, theme: Theme) -> go.Figure:
    methods = list(dict.fromkeys(group for group in data.groups if group != Group.TRAJECTORY))
    separate = isinstance(data.options, SampleOptions) and data.options.panel == "method" and len(methods) > 1
    return islands(data, theme, "tsne-samples", [[method] for method in methods] if separate else [methods])
