r"""Formulas that people type, for a document of LaTeX: of the commands of its mathematics alone.

is_mathematics(r"\frac{a}{b}")             # True
is_mathematics(r"\input{/etc/passwd}")     # False: whoever runs LaTeX would read it
"""

from __future__ import annotations

import re

# Letters of LaTeX, amsmath and amssymb. Everything else is set as text: what defines, reads, writes or runs is unknown
# here, under whatever name a package gives it.
_COMMANDS = """
alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa varkappa lambda mu nu xi pi varpi rho
varrho sigma varsigma tau upsilon phi varphi chi psi omega digamma Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi
Psi Omega aleph beth hbar hslash ell wp Re Im imath jmath partial nabla infty emptyset varnothing forall exists
nexists neg lnot top bot angle triangle square Box Diamond diamond star ast bullet circ cdot times div pm mp oplus
ominus otimes oslash odot cap cup uplus sqcap sqcup vee wedge lor land setminus smallsetminus wr amalg dagger
ddagger

le leq ge geq leqslant geqslant ne neq ll gg lll ggg equiv sim simeq approx cong propto asymp doteq prec succ preceq
succeq lesssim gtrsim lessgtr in notin ni subset supset subseteq supseteq subsetneq supsetneq sqsubseteq sqsupseteq
vdash dashv models perp parallel mid nmid nparallel bowtie smile frown not triangleq

to gets leftarrow rightarrow leftrightarrow Leftarrow Rightarrow Leftrightarrow longleftarrow longrightarrow
longleftrightarrow Longleftarrow Longrightarrow Longleftrightarrow mapsto longmapsto uparrow downarrow updownarrow
Uparrow Downarrow nearrow searrow swarrow nwarrow hookrightarrow hookleftarrow rightharpoonup leftharpoonup
rightleftharpoons implies impliedby iff leadsto rightsquigarrow xrightarrow xleftarrow

sum prod coprod int iint iiint oint bigcap bigcup bigvee bigwedge bigoplus bigotimes bigodot biguplus limits
nolimits arccos arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf ker lg lim liminf limsup ln log
max min Pr sec sin sinh sup tan tanh mod bmod pmod operatorname

frac dfrac tfrac cfrac binom dbinom tbinom sqrt overline underline widehat widetilde hat check breve acute grave
tilde bar vec dot ddot mathring overbrace underbrace overrightarrow overleftarrow overset underset stackrel substack
boxed phantom hphantom vphantom prime backprime

left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm Bigm langle rangle lbrace
rbrace lbrack rbrack lfloor rfloor lceil rceil lvert rvert lVert rVert vert Vert backslash

mathrm mathbf mathit mathsf mathtt mathbb mathcal mathfrak mathnormal boldsymbol text textrm textbf textit textsf
displaystyle textstyle scriptstyle scriptscriptstyle

quad qquad dots ldots cdots vdots ddots colon hline
"""
_ENVIRONMENTS = (
    "matrix pmatrix bmatrix Bmatrix vmatrix Vmatrix smallmatrix cases aligned alignedat gathered split array"
)
COMMANDS, ENVIRONMENTS = frozenset(_COMMANDS.split()), frozenset(_ENVIRONMENTS.split())
_TOKEN = re.compile(
    r"""
    \\(?:begin|end)\s*\{(?P<environment>[a-zA-Z*]*)\}
    | \\(?P<command>[a-zA-Z]+)
    | \\(?P<sign>.)
    | (?P<brace>[{}])
    | (?P<refused>\^\^|[%#$\\])
    """,
    re.VERBOSE | re.DOTALL,
)
_SIGNS = frozenset(",;:! {}|\\&%#_$>")


def is_mathematics(text: str) -> bool:
    """Whether a formula is made of what mathematics is, with as many braces and environments begun as ended."""
    depth, open_ = 0, list[tuple[str, int]]()
    if "\n\n" in text.strip() or not text.strip():
        return False
    for found in _TOKEN.finditer(text):
        if found["refused"] or (found["sign"] is not None and found["sign"] not in _SIGNS):
            return False
        if (command := found["command"]) is not None and command not in COMMANDS:
            return False
        if (environment := found["environment"]) is not None:
            if environment not in ENVIRONMENTS:
                return False
            if found[0].startswith("\\begin"):
                open_.append((environment, depth))
            elif not open_ or open_.pop() != (environment, depth):
                return False
        if found["brace"]:
            depth += 1 if found["brace"] == "{" else -1
            if depth < (open_[-1][1] if open_ else 0):
                return False
    return depth == 0 and not open_
