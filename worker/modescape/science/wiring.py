"""Which hidden units of any network can be permuted together, read off one forward pass (science l.2).

    symmetry = traced(network, (3, 32, 32))

Every axis of every tensor is labelled with the units that run along it; each operation of torch says which axes must
carry the same units, in the same order. An axis is a concatenation of segments, a segment a product of atoms: 576 rows
of an attention layer become 3 segments of (heads x dimensions) when they are viewed so. Atoms that must agree are
united. What an operation does that is not known here fixes the order of all units it touches, so that what is left is
safe; pixels, classes and constants are fixed to begin with.

Where an atom is split in two, as channels into the blocks of a grouped convolution or normalisation, or rows into
heads, the inner units may be permuted differently in every block; their blocks move together, with all that is split
alike (`Symmetry.families`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakIdKeyDictionary

from modescape.science.symmetry import Axis, Symmetry

Shape = Sequence[int]


class Atom:
    """Units that keep together. parts: what it was found to be made of, a concatenation of products; outer: the blocks
    in each of which its units may have an order of their own."""

    def __init__(self, size: int, *, fixed: bool = False) -> None:
        self.size = size
        self.fixed = fixed
        self.touched = False  # united with anything
        self.parts: Dim | None = None
        self.outer: set[Atom] = set()
        self.within: Atom | None = None  # what it is the first factor of
        self.variants: list[dict[Atom, Atom]] | None = None
        self._same: Atom | None = None

    @property
    def root(self) -> Atom:
        found = self
        while found._same is not None:
            found = found._same
        return found

    def unite(self, other: Atom) -> None:
        one, two = self.root, other.root
        one.touched = two.touched = True
        if one is two:
            return
        for atom in (one, two):
            for variants in atom.variants or ():  # an order was asked of what has gone apart
                for variant in variants.values():
                    variant.root.fixed = True
            atom.fixed |= atom.variants is not None
        two._same = one
        one.fixed |= two.fixed
        one.outer |= two.outer


Segment = tuple[Atom, ...]
Dim = tuple[Segment, ...]
Labels = list[Dim]


def plain(size: int, *, fixed: bool = False) -> Dim:
    return ((Atom(size, fixed=fixed),),) if size > 1 else ((),)


def leaves(dim: Dim) -> Dim:
    """The same with every atom resolved to what it is made of."""
    found: list[Segment] = []
    for segment in dim:
        products: list[Segment] = [()]
        for atom in (one.root for one in segment):
            parts = leaves(atom.parts) if atom.parts is not None else ((atom,),)
            if len(parts) > 1 and products != [()]:  # a concatenation inside a product has no segments
                fix(parts)
                parts = plain(atom.size, fixed=True)
            products = [before + part for before in products for part in parts]
        found += products
    return tuple(found)


def size_of(segment: Segment) -> int:
    return prod(atom.size for atom in segment)


def fix(dim: Dim) -> None:
    """Let nothing along it be permuted."""
    for segment in leaves(dim):
        for atom in segment:
            atom.fixed = True


def unify(one: Dim, other: Dim) -> None:
    """Along both run the same units."""
    a, b = leaves(one), leaves(other)
    if a == b:
        return
    if len(b) == 1 and len(b[0]) == 1:
        a, b = b, a
    if len(a) == 1 and len(a[0]) == 1:
        _bind(a[0][0], b)
    elif cuts(a) == cuts(b):
        for first, second in zip(a, b, strict=True):
            _unify_products(first, second)
    else:
        ends = sorted({*cuts(a), *cuts(b)})
        pieces = [cut(dim, ends) for dim in (a, b)]
        if pieces[0] is None or pieces[1] is None:
            fix(a)
            fix(b)
        else:
            unify(leaves(pieces[0]), leaves(pieces[1]))


def _bind(atom: Atom, dim: Dim) -> None:
    """A single atom is what stands in `dim`."""
    if len(dim) == 1 and len(dim[0]) == 1:
        atom.unite(dim[0][0])
    elif atom.fixed or atom.outer or atom.variants or any(atom in segment for segment in dim):
        atom.fixed = True
        fix(dim)
    else:
        atom.touched, atom.parts = True, dim


def _unify_products(one: Segment, other: Segment) -> None:
    a, b = list(one), list(other)
    while a and b:
        x, y = a.pop(0), b.pop(0)
        if x.size == y.size:
            unify(((x,),), ((y,),))
        elif x.size % y.size == 0:
            first, *rest = split(x, (y.size, x.size // y.size))
            first.unite(y)
            a = [*rest, *a]
        elif y.size % x.size == 0:
            first, *rest = split(y, (x.size, y.size // x.size))
            first.unite(x)
            b = [*rest, *b]
        else:
            fix(((x, *a), (y, *b)))
            return


def split(atom: Atom, sizes: tuple[int, int]) -> Segment:
    """An atom as a product of two: blocks, and units in each of them."""
    blocks, inner = Atom(sizes[0], fixed=atom.fixed), Atom(sizes[1], fixed=atom.fixed)
    for above in atom.outer:  # of three levels the outermost stays as it is
        above.root.fixed = True
    inner.outer = {blocks}
    blocks.within = atom
    if atom.variants:
        atom.fixed = blocks.fixed = inner.fixed = True
    atom.parts = ((blocks, inner),)
    return blocks, inner


def cuts(dim: Dim) -> list[int]:
    """Where its segments end."""
    return list(accumulate(size_of(segment) for segment in dim))


def cut(dim: Dim, ends: Sequence[int]) -> Dim | None:
    """The same with segments that end there; None where a product would have to be cut."""
    found: list[Segment] = []
    start = 0
    for segment in leaves(dim):
        stop = start + size_of(segment)
        inside = [end for end in ends if start < end < stop]
        if inside and len(segment) > 1:
            return None
        if inside:
            edges = [start, *inside, stop]
            atom = segment[0]
            parts = tuple((Atom(b - a, fixed=atom.fixed),) for a, b in pairwise(edges))
            if atom.outer or atom.variants:
                atom.fixed = True
                fix(parts)
            atom.touched, atom.parts = True, parts
            found += parts
        else:
            found.append(segment)
        start = stop
    return tuple(found)


def merged(dims: Sequence[Dim]) -> Dim:
    """Neighbouring axes as one; what is concatenated can only come first."""
    first, *others = [leaves(dim) for dim in dims]
    for other in others:
        if len(other) > 1:
            fix(other)
    single = (dim if len(dim) == 1 else plain(cuts(dim)[-1], fixed=True) for dim in others)
    rest = tuple(atom for dim in single for atom in dim[0])
    return tuple(segment + rest for segment in first)


def carved(dim: Dim, sizes: Sequence[int]) -> list[Dim]:
    """One axis as several."""
    segments = leaves(dim)
    if len(segments) > 1:
        fix(segments)
        return [plain(size, fixed=True) for size in sizes]
    atoms, found = list(segments[0]), list[Dim]()
    for size in sizes:
        taken: list[Atom] = []
        while size > 1:
            atom = atoms.pop(0)
            if size % atom.size == 0:
                taken.append(atom)
                size //= atom.size
            elif atom.size % size == 0:
                first, rest = split(atom, (size, atom.size // size))
                taken.append(first)
                atoms.insert(0, rest)
                size = 1
            else:
                fix(segments)
                return [plain(one, fixed=True) for one in sizes]
        found.append((tuple(taken),))
    return found


def viewed(labels: Labels, shape: Shape, into: Shape) -> Labels:
    """Labels of a tensor whose entries keep their order in memory."""
    found: Labels = []
    i = j = 0
    while i < len(shape) or j < len(into):
        a, b, ni, nj = 1, 1, i, j
        while True:
            if a == b and (ni > i or nj > j):
                break
            if (a <= b and ni < len(shape)) or nj >= len(into):
                a *= shape[ni]
                ni += 1
            else:
                b *= into[nj]
                nj += 1
        old, new = labels[i:ni], into[j:nj]
        if old and len(new) == 1:
            found.append(merged(old) if len(old) > 1 else old[0])
        elif new:
            found += carved(merged(old), new) if old else [((),) for _ in new]
        i, j = ni, nj
    return found


# --- what operations say of axes --------------------------------------------------------------------------------------

_SAME = """
    add sub rsub mul div addcmul addcdiv lerp pow square sqrt rsqrt reciprocal neg abs sign exp log log1p sin cos erf
    relu relu6 gelu silu hardtanh hardswish hardsigmoid sigmoid tanh leaky_relu elu celu selu mish softplus threshold
    clamp clamp_min clamp_max maximum minimum where masked_fill native_dropout bernoulli
    softmax _softmax _safe_softmax log_softmax _log_softmax
    _to_copy clone contiguous detach alias lift_fresh copy
"""
_REDUCED = "mean sum amax amin var std var_mean linalg_vector_norm norm logsumexp"
_LOCAL = """
    max_pool2d max_pool2d_with_indices mkldnn_max_pool2d avg_pool2d adaptive_avg_pool2d _adaptive_avg_pool2d
    adaptive_max_pool2d upsample_nearest2d upsample_bilinear2d _upsample_bilinear2d_aa upsample_bicubic2d
    _upsample_bicubic2d_aa reflection_pad2d replication_pad2d
"""


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Labels the tensors of a forward pass; `seen` are all labels there were."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._labels: Any = WeakIdKeyDictionary()
        self.seen: list[Labels] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        outputs = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        name = name if name.startswith("__") else name.rstrip("_")
        rule: Callable[..., list[Labels] | None] | None = getattr(self, f"_op_{name}", None)
        if rule is None:
            kinds = ((_SAME, self._same), (_REDUCED, self._reduced), (_LOCAL, self._local))
            rule = next((one for names, one in kinds if name in names.split()), None)
        inputs = [one for one in tree_iter((args, kwargs)) if isinstance(one, Tensor)]
        results = [one for one in tree_iter(outputs) if isinstance(one, Tensor)]
        found = rule(func, args, kwargs, results) if rule is not None else None
        if found is None:
            for one in inputs:
                for dim in self.of(one):
                    fix(dim)
            found = [[plain(size, fixed=True) for size in one.shape] for one in results]
        for result, labels in zip(results, found, strict=False):
            self.label(result, labels)
        return outputs

    def label(self, tensor: Tensor, labels: Labels) -> None:
        self._labels[tensor] = labels
        self.seen.append(labels)

    def of(self, tensor: Tensor) -> Labels:
        """A tensor that comes from nowhere is a constant."""
        if tensor not in self._labels:
            self.label(tensor, [plain(size, fixed=True) for size in tensor.shape])
        found: Labels = self._labels[tensor]
        return found

    # each: (func, args, kwargs, results) -> labels of the results; None: nothing is known

    def _same(self, _func: Any, args: Any, kwargs: Any, results: Any) -> list[Labels]:
        """Element by element, or along an axis whose order does not matter."""
        shape = results[0].shape
        found: Labels = [((),) for _ in shape]
        for one in tree_iter((args, kwargs)):
            if isinstance(one, Tensor):
                for i, (size, dim) in enumerate(zip(one.shape, self.of(one), strict=True), len(shape) - one.dim()):
                    if size > 1 and found[i] == ((),):
                        found[i] = dim
                    elif size > 1:
                        unify(found[i], dim)
        return [found for _ in results]

    def _reduced(self, _func: Any, args: Any, kwargs: Any, results: Any) -> list[Labels] | None:
        x, labels, result = args[0], self.of(args[0]), results[0]
        dims = next((one for one in (*args[1:], kwargs.get("dim")) if isinstance(one, list | tuple)), None)
        if dims is None and result.dim() > 0:
            return None
        gone = {dim % x.dim() for dim in dims} if dims else set(range(x.dim()))
        if result.dim() == x.dim():
            return [[((),) if i in gone else dim for i, dim in enumerate(labels)] for _ in results]
        return [[dim for i, dim in enumerate(labels) if i not in gone] for _ in results]

    def _local(self, _func: Any, args: Any, _kwargs: Any, results: Any) -> list[Labels]:
        """Places beside each other: their order is fixed, that of channels is not."""
        labels = self.of(args[0])
        for dim in labels[2:]:
            fix(dim)
        return [[*labels[:2], *(plain(size, fixed=True) for size in one.shape[2:])] for one in results]

    # views

    def _op_view(self, _func: Any, args: Any, _kwargs: Any, results: Any) -> list[Labels]:
        return [viewed(self.of(args[0]), args[0].shape, results[0].shape)]

    _op_reshape = _op__unsafe_view = _op__reshape_alias = _op_view
    _op_squeeze = _op_unsqueeze = _op_view

    def _op_permute(self, _func: Any, args: Any, _kwargs: Any, _results: Any) -> list[Labels]:
        return [[self.of(args[0])[dim] for dim in args[1]]]

    def _op_transpose(self, _func: Any, args: Any, _kwargs: Any, _results: Any) -> list[Labels]:
        labels = list(self.of(args[0]))
        labels[args[1]], labels[args[2]] = labels[args[2]], labels[args[1]]
        return [labels]

    def _op_t(self, _func: Any, args: Any, _kwargs: Any, _results: Any) -> list[Labels]:
        return [self.of(args[0])[::-1]]

    def _op_expand(self, _func: Any, args: Any, _kwargs: Any, results: Any) -> list[Labels]:
        x, shape = args[0], results[0].shape
        labels = [*([((),)] * (len(shape) - x.dim())), *self.of(x)]
        sizes = [*([1] * (len(shape) - x.dim())), *x.shape]
        return [
            [plain(new, fixed=True) if old != new else dim for old, new, dim in zip(sizes, shape, labels, strict=True)]
        ]

    def _op_select(self, _func: Any, args: Any, _kwargs: Any, _results: Any) -> list[Labels]:
        return [self._selected(args[0], args[1], args[2])]

    def _op_unbind(self, _func: Any, args: Any, _kwargs: Any, results: Any) -> list[Labels]:
        dim = args[1] if len(args) > 1 else 0
        return [self._selected(args[0], dim, index) for index in range(len(results))]

    def _selected(self, x: Tensor, dim: int, index: int) -> Labels:
        """Without one axis. Where that says which of several kinds a unit is of (a query, a key, a value), the kinds
        have orders of their own from here on."""
        labels = self.of(x)
        dim, index = dim % x.dim(), index % x.shape[dim]
        rest = labels[:dim] + labels[dim + 1 :]
        found = leaves(labels[dim])
        if len(found) == 1 and len(found[0]) == 1 and _enumerated(found[0][0]):
            named = found[0][0].variants
            assert named is not None
            return [
                tuple(tuple(named[index].get(atom, atom) for atom in segment) for segment in leaves(one))
                for one in rest
            ]
        fix(labels[dim])
        return rest

    def _op_slice(self, _func: Any, args: Any, _kwargs: Any, results: Any) -> list[Labels]:
        x, dim, start, _, step = [*args, 0, None, None, None][:5] if len(args) < 2 else [*args, None, None, None][:5]
        dim = dim % x.dim()
        size, kept = x.shape[dim], results[0].shape[dim]
        start = 0 if start is None else max(start + size, 0) if start < 0 else min(start, size)
        return [self._sliced(x, dim, start, kept, step or 1)]

    def _sliced(self, x: Tensor, dim: int, start: int, kept: int, step: int = 1) -> Labels:
        labels = list(self.of(x))
        if kept == x.shape[dim]:
            return labels
        if kept == 1:
            rest = self._selected(x, dim, start)
            return [*rest[:dim], ((),), *rest[dim:]]
        pieces = cut(labels[dim], (start, start + kept)) if step == 1 else None
        if pieces is None:
            fix(labels[dim])
            labels[dim] = plain(kept, fixed=True)
        else:
            starts = [0, *cuts(pieces)]
            labels[dim] = tuple(piece for piece, at in zip(pieces, starts, strict=False) if start <= at < start + kept)
        return labels

    def _op_split(self, _func: Any, args: Any, _kwargs: Any, results: Any) -> list[Labels]:
        dim = (args[2] if len(args) > 2 else _kwargs.get("dim", 0)) % args[0].dim()
        sizes = [one.shape[dim] for one in results]
        starts = [0, *accumulate(sizes)]
        return [self._sliced(args[0], dim, start, size) for start, size in zip(starts, sizes, strict=False)]

    _op_split_with_sizes = _op_chunk = _op_split

    def _op_cat(self, _func: Any, args: Any, kwargs: Any, results: Any) -> list[Labels]:
        tensors = [one for one in args[0] if one.numel()]
        dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % results[0].dim()
        found = list(self.of(tensors[0]))
        joined: list[Segment] = []
        for one in tensors:
            labels = self.of(one)
            joined += leaves(labels[dim])
            for i, other in enumerate(labels):
                if i != dim:
                    unify(found[i], other)
        found[dim] = tuple(joined)
        return [found]

    def _op_constant_pad_nd(self, _func: Any, args: Any, _kwargs: Any, results: Any) -> list[Labels]:
        labels = list(self.of(args[0]))
        for i, (old, new) in enumerate(zip(args[0].shape, results[0].shape, strict=True)):
            if old != new:
                fix(labels[i])
                labels[i] = plain(new, fixed=True)
        return [labels]

    def _op_roll(self, _func: Any, args: Any, _kwargs: Any, _results: Any) -> list[Labels] | None:
        if len(args) < 3 or not args[2]:
            return None
        labels = self.of(args[0])
        for dim in args[2]:
            fix(labels[dim])
        return [labels]

    # products

    def _product(self, x: Tensor, y: Tensor) -> Labels:
        a, b = self.of(x), self.of(y)
        unify(a[-1], b[-2])
        for one, other in zip(a[:-2], b[:-2], strict=True):
            unify(one, other)
        return [*a[:-1], b[-1]]

    def _op_mm(self, _func: Any, args: Any, _kwargs: Any, _results: Any) -> list[Labels]:
        return [self._product(args[0], args[1])]

    _op_bmm = _op_mm

    def _op_addmm(self, _func: Any, args: Any, _kwargs: Any, _results: Any) -> list[Labels]:
        found = self._product(args[1], args[2])
        for size, one, other in zip(args[0].shape[::-1], self.of(args[0])[::-1], found[::-1], strict=False):
            if size > 1:
                unify(one, other)
        return [found]

    _op_baddbmm = _op_addmm

    def _op_linear(self, _func: Any, args: Any, _kwargs: Any, _results: Any) -> list[Labels]:
        x, (out, into) = self.of(args[0]), self.of(args[1])
        unify(x[-1], into)
        if len(args) > 2 and args[2] is not None:
            unify(self.of(args[2])[0], out)
        return [[*x[:-1], out]]

    def _op_convolution(self, _func: Any, args: Any, _kwargs: Any, results: Any) -> list[Labels]:
        images, kernel, bias = args[:3]
        groups, transposed = args[8], args[6]
        x, (out, into, *places) = self.of(images), self.of(kernel)
        for dim in (*x[2:], *places):
            fix(dim)
        if transposed and groups == 1:
            out, into = into, out
        elif transposed:
            fix(out)
            fix(into)
            out = plain(results[0].shape[1], fixed=True)
            into = x[1]
            fix(into)
        if groups == 1 or transposed:
            unify(x[1], into)
        else:
            self._grouped(x[1], images.shape[1], out, kernel.shape[0], groups)
            fix(into)
        if bias is not None:
            unify(self.of(bias)[0], out)
        return [[x[0], out, *(plain(size, fixed=True) for size in results[0].shape[2:])]]

    def _grouped(self, into: Dim, inputs: int, out: Dim, outputs: int, groups: int) -> None:
        """Blocks of channels; inputs have no order of their own in each of them."""
        if inputs == groups == outputs:
            unify(into, out)
            return
        before = into if inputs == groups else _blocks(into, groups, inputs, inner=False)
        unify(before, out if outputs == groups else _blocks(out, groups, outputs, inner=True))

    # normalisation

    def _op_native_batch_norm(self, _func: Any, args: Any, _kwargs: Any, results: Any) -> list[Labels]:
        x = self.of(args[0])
        for one in args[1:5]:
            if isinstance(one, Tensor):
                unify(self.of(one)[0], x[1])
        return [x, *([plain(size, fixed=True) for size in one.shape] for one in results[1:])]

    _op__native_batch_norm_legit_no_training = _op_cudnn_batch_norm = _op_batch_norm = _op_native_batch_norm

    def _op_native_layer_norm(self, _func: Any, args: Any, _kwargs: Any, results: Any) -> list[Labels]:
        x = self.of(args[0])
        for one in args[2:4]:
            if isinstance(one, Tensor):
                for dim, other in zip(self.of(one)[::-1], x[::-1], strict=False):
                    unify(dim, other)
        return [x, *([*x[: -len(args[1])], *[((),)] * len(args[1])] for _ in results[1:])]

    _op__fused_rms_norm = _op_native_layer_norm

    def _op_native_group_norm(self, _func: Any, args: Any, _kwargs: Any, results: Any) -> list[Labels]:
        x, groups, channels = self.of(args[0]), args[6], args[0].shape[1]
        for one in args[1:3]:
            if isinstance(one, Tensor):
                unify(self.of(one)[0], x[1])
        if 1 < groups < channels:
            _blocks(x[1], groups, channels, inner=True)
        return [x, *([x[0], plain(groups, fixed=True)] for _ in results[1:])]


def _blocks(dim: Dim, count: int, size: int, *, inner: bool) -> Dim:
    """The blocks of an axis that falls into `count` of them; inner: units have an order of their own in each."""
    blocks, units = carved(dim, (count, size // count))
    if not inner:
        fix(units)
    return blocks


def _enumerated(atom: Atom) -> bool:
    """Give what is inside the blocks of `atom` one name a block, if nothing has asked more of it yet."""
    if atom.variants is not None:
        return True
    whole = atom.within
    if whole is None or whole.root is not whole or atom.touched or atom.size > 16:
        return False
    inside = leaves(whole.parts or ())[0][1:] if whole.parts else ()
    if leaves(whole.parts or ())[0][:1] != (atom,) or any(one.touched for one in inside) or whole.fixed:
        return False
    atom.variants = []
    for _ in range(atom.size):
        named = {one: Atom(one.size) for one in inside}
        for one, variant in named.items():
            variant.outer = {named[other] for other in one.outer if other in named}
        if len(inside) > 1:
            named[inside[0]].within = None
        atom.variants.append(named)
    for one in inside:
        one.variants = [{one: named[one]} for named in atom.variants]
    whole.parts = tuple(tuple(named[one] for one in inside) for named in atom.variants)
    return True


# --- groups -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where units run in a tensor."""

    tensor: str
    axis: int
    start: int
    width: int


def traced(module: nn.Module, shape: Shape) -> Symmetry:
    """The groups of a network for images of `shape` [C, H, W]; left in evaluation mode.

    Not checked: see `alignment.checked`.
    """
    named = _tensors(module)
    tracer = _Tracer()
    axes: dict[str, Labels] = {}
    for name, tensor in named.items():
        axes[name] = [plain(size) for size in tensor.shape]
        tracer.label(tensor, axes[name])
    device = next(iter(named.values())).device
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), tracer:
            tracer.label(images, [plain(size, fixed=True) for size in images.shape])
            images.requires_grad_()  # a first layer of ours is then itself, not its fast stand-in
            logits = module.eval()(images)
            for dim in tracer.of(logits):
                fix(dim)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return _symmetry(axes, tracer.seen)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """What moves with units: parameters, and the statistics of batch norm."""
    statistics = {
        f"{name}.{part}".lstrip("."): getattr(layer, part)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.modules.batchnorm._NormBase)
        for part in ("running_mean", "running_var")
        if getattr(layer, part) is not None
    }
    return {**dict(module.named_parameters()), **statistics}


def _symmetry(axes: dict[str, Labels], seen: Sequence[Labels]) -> Symmetry:
    while _settle(axes, seen):
        pass
    places: dict[tuple[Atom, Atom | None], list[_Place]] = {}
    for name, labels in axes.items():
        for number, dim in enumerate(labels):
            for start, width, blocks, inner in _runs(dim):
                places.setdefault((blocks, inner), []).append(_Place(name, number, start, width))
    return _named(places)


def _settle(axes: dict[str, Labels], seen: Sequence[Labels]) -> bool:
    """Fix what cannot be permuted after all; whether there was anything."""
    wrong: set[Atom] = set()
    for labels in seen:
        here = {atom for dim in labels for segment in leaves(dim) for atom in segment}
        for atom in here:
            blocks = {one.root for one in atom.outer}
            if not atom.fixed and blocks and (len(blocks) > 1 or not blocks <= here):
                wrong.add(atom)
    for labels in axes.values():
        for dim in labels:
            for segment in leaves(dim):
                free = [atom for atom in segment if not atom.fixed]
                outer = [{one.root for one in atom.outer} for atom in free]
                is_pair = len(free) == 2 and outer == [set(), {free[0]}]
                if len(free) == 1 and outer[0]:  # in blocks that stay where they are
                    is_right = outer[0] <= set(segment) and _together(segment, next(iter(outer[0])), free[0])
                else:
                    is_right = len(free) < 2 or (is_pair and _together(segment, *free))
                wrong.update(() if is_right else free)
    for atom in wrong:
        atom.fixed = True
    return bool(wrong)


def _together(segment: Segment, blocks: Atom, inner: Atom) -> bool:
    return segment.index(inner) == segment.index(blocks) + 1


def _runs(dim: Dim) -> Iterator[tuple[int, int, Atom, Atom | None]]:
    """(start, width, blocks or units, units in blocks) of what can be permuted along an axis."""
    start = 0
    for segment in leaves(dim):
        length = size_of(segment)
        free = [atom for atom in segment if not atom.fixed]
        if free:
            inner = free[-1] if free[-1].outer else None
            blocks = next(iter(inner.outer)).root if inner is not None else free[0]
            width = size_of(segment[segment.index(free[-1]) + 1 :])
            for at in range(start, start + length, size_of(segment[segment.index(blocks) :])):
                yield at, width, blocks, inner
        start += length


def _named(places: dict[tuple[Atom, Atom | None], list[_Place]]) -> Symmetry:
    """Groups by the first tensor they run along."""
    symmetry = Symmetry(by_looks=True)
    within: dict[Atom, list[tuple[Atom, Atom | None]]] = {}
    for key in places:
        within.setdefault(key[0], []).append(key)
    families: dict[Atom, str] = {}
    for (blocks, inner), found in places.items():
        group = _free_name(found[0].tensor.removesuffix(".weight"), symmetry.sizes)
        symmetry.sizes[group] = blocks.size * (inner.size if inner is not None else 1)
        if any(one is not None for _, one in within[blocks]):
            family = families.setdefault(blocks, group)
            symmetry.families[group] = (family, blocks.size)
            if blocks.fixed:
                symmetry.still.add(family)
        for place in found:
            symmetry.axes.setdefault(place.tensor, []).append(Axis(place.axis, group, place.width, place.start))
    return symmetry


def _free_name(wanted: str, taken: Iterable[str]) -> str:
    names = (wanted if i == 1 else f"{wanted} {i}" for i in range(1, 1_000_000))
    return next(name for name in names if name not in taken)
