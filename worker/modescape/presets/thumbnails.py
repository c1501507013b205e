"""Pictures on the cards of presets, several of which share one: SVG in a box of 72 x 44, in the tokens of the page."""

CURVES = (
    '<path fill="none" stroke="currentColor" d="M4 2v38h66"/><path fill="none" '
    'stroke="var(--look-random)" stroke-width="2" d="M8 32c12-6 28-8 58-9"/><path fill="none" '
    'stroke="var(--look-independent)" stroke-width="2.5" d="M8 32C18 16 32 10 66 8"/>'
)
CYCLES = (
    '<path fill="none" stroke="currentColor" d="M4 2v38h66"/><path fill="none" '
    'stroke="var(--look-sgmcmc)" stroke-width="2" d="M6 6c14 0 10 32 20 32V6c14 0 10 32 20 32V6c14 0 10 '
    '32 20 32"/>'
)
ISLANDS = (
    '<g fill="var(--look-random)"><circle cx="14" cy="12" r="2"/><circle cx="20" cy="8" r="2"/><circle '
    'cx="56" cy="14" r="2"/><circle cx="36" cy="36" r="2"/></g><g fill="var(--look-diagonal)"><circle '
    'cx="18" cy="15" r="2"/><circle cx="61" cy="10" r="2"/><circle cx="41" cy="33" r="2"/></g><g '
    'fill="var(--look-independent)"><circle cx="17" cy="11" r="3"/><circle cx="58" cy="11" r="3"/>'
    '<circle cx="38" cy="34" r="3"/></g>'
)
LANDSCAPE = (
    '<g fill="none" stroke="currentColor"><ellipse cx="18" cy="30" rx="6" ry="4"/><ellipse cx="18" '
    'cy="30" rx="13" ry="9"/><ellipse cx="52" cy="14" rx="6" ry="4"/><ellipse cx="52" cy="14" rx="13" '
    'ry="9"/></g><circle cx="18" cy="30" r="3" fill="var(--look-independent)"/><circle cx="52" cy="14" '
    'r="3" fill="var(--look-independent)"/>'
)
OUTSIDE = (
    '<path fill="none" stroke="currentColor" d="M4 40h66"/><path fill="none" '
    'stroke="var(--look-trajectory)" stroke-width="2" d="M6 39C12 39 14 6 20 6s8 33 20 33"/><path '
    'fill="none" stroke="var(--look-independent)" stroke-width="2.5" d="M26 39c14 0 18-25 26-25s8 25 16 '
    '25"/>'
)
PLANE = (
    '<path fill="none" stroke="currentColor" d="M4 2v38h66"/><g fill="var(--look-random)"><circle '
    'cx="20" cy="14" r="2"/><circle cx="32" cy="17" r="2"/><circle cx="42" cy="22" r="2"/></g><g '
    'fill="var(--look-low-rank)"><circle cx="50" cy="28" r="2"/><circle cx="54" cy="34" r="2"/></g><g '
    'fill="var(--look-independent)"><circle cx="58" cy="12" r="3"/><circle cx="64" cy="10" r="3"/></g>'
)
SEEDS = (
    '<path fill="none" stroke="currentColor" d="M4 2v38h66"/><g fill="var(--look-independent)"><circle '
    'cx="16" cy="12" r="3"/><circle cx="36" cy="10" r="3"/><circle cx="56" cy="9" r="3"/></g><g '
    'fill="var(--look-averaging)"><circle cx="16" cy="32" r="3"/><circle cx="36" cy="26" r="3"/><circle '
    'cx="56" cy="18" r="3"/></g>'
)
SHIFT = (
    '<path fill="none" stroke="currentColor" d="M4 2v38h66"/><path fill="none" '
    'stroke="var(--look-trajectory)" stroke-width="2" stroke-dasharray="4 3" d="M8 12c18 4 38 14 58 24"/>'
    '<path fill="none" stroke="var(--look-independent)" stroke-width="2.5" d="M8 8c18 3 38 8 58 17"/>'
)
SIMILARITY = (
    '<path fill="var(--look-trajectory)" d="M16 2h40v40H16z"/><path fill="var(--look-random)" d="M16 '
    '2h10v10H16zM26 12h10v10H26zM36 22h10v10H36zM46 32h10v10H46z"/>'
)
TRAJECTORIES = (
    '<path fill="none" stroke="var(--look-trajectory)" stroke-dasharray="2 3" stroke-width="2" d="M36 '
    '24C28 18 20 20 8 10M36 24c6-8 14-8 28-12M36 24c2 6 4 8 6 17"/><g fill="var(--look-independent)">'
    '<circle cx="8" cy="10" r="3"/><circle cx="64" cy="12" r="3"/><circle cx="42" cy="40" r="3"/></g>'
)
TUNNEL = (
    '<path fill="none" stroke="currentColor" stroke-dasharray="3 3" d="M10 34L62 34"/><path fill="none" '
    'stroke="var(--look-averaging)" stroke-width="2.5" d="M10 34C18 4 54 4 62 34"/><circle cx="10" '
    'cy="34" r="3.5" fill="var(--look-independent)"/><circle cx="62" cy="34" r="3.5" '
    'fill="var(--look-independent)"/>'
)
