"""What residual networks of basic blocks have in common: which of their channels can be permuted together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modescape.science.alignment import Wiring


def wiring(module: Any, wiring: Wiring) -> None:
    """The stream that blocks add to is one group until a shortcut changes its width; each block has one inside."""
    from torch import nn

    stream = "stream 0"
    wiring.layer(module.stem, None, stream)
    wiring.norm(module.stem_norm, stream)
    for i, block in enumerate(module.blocks):
        inner, out = f"block {i}", stream
        shortcut = list(block.shortcut) if isinstance(block.shortcut, nn.Sequential) else [block.shortcut]
        if not isinstance(shortcut[0], nn.Identity):
            out = f"stream {i + 1}"
            wiring.layer(shortcut[0], stream, out)
            for norm in shortcut[1:]:
                wiring.norm(norm, out)
        wiring.layer(block.first, stream, inner)
        wiring.norm(block.first_norm, inner)
        wiring.layer(block.second, inner, out)
        wiring.norm(block.second_norm, out)
        stream = out
    wiring.layer(module.head, stream, None)
