"""Matrix products on raw float32 pointers, from register tiles.

A tile is C[MR, 16·NR] = (start +) Σ_s A[a + s·step + i·row] · B[b + s·ldb + 16·j], accumulated in registers over the
K values of s. KU interleaved partial sums hide the latency of narrow tiles; KU depends on the column count
alone, never on the processor, so that the bits don't either. Two measured details of LLVM live here: its
unrolling by 4 breaks the streaming of B from L2 (1.4 × slower at H = 128), so loops carry
llvm.loop.unroll.disable; and `direction` lets a caller walk a matrix alternately forwards and backwards
through time, which keeps half of it in L1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from stream_rnn.kernels.cache import inner
from stream_rnn.kernels.vec import (
    I32,
    I64,
    IVEC,
    LANES,
    VEC,
    WIDE,
    Builder,
    Floats,
    const,
    fma,
    load,
    splat,
    store,
    vload,
    vset,
    vstore,
)

_ZERO = const(0.0)


def _k(n: int) -> Any:
    return ir.Constant(I64, n)


def _loop(b: Builder, start: Any, stop: Any, step: int, accs: list[Any], body: Any) -> tuple[Any, list[Any]]:
    """for s in start … stop - 1 by step: accs = body(s, accs); the final s and accs."""
    before = b.basic_block
    head, inside, after = (b.append_basic_block(name) for name in ("tile.head", "tile.body", "tile.end"))
    b.branch(head)
    b.position_at_end(head)
    s = b.phi(I64)
    phis = [b.phi(VEC) for _ in accs]
    s.add_incoming(start, before)
    for phi, acc in zip(phis, accs, strict=True):
        phi.add_incoming(acc, before)
    b.cbranch(b.icmp_signed("<", s, stop), inside, after)
    b.position_at_end(inside)
    out = body(s, phis)
    s.add_incoming(b.add(s, _k(step)), inside)
    for phi, acc in zip(phis, out, strict=True):
        phi.add_incoming(acc, inside)
    back = b.branch(head)
    module = b.module
    loop_id = ir.values.MDValue(module, [], name=str(len(module.metadata)))  # must refer to itself
    loop_id.operands = (loop_id, module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")]))
    back.set_metadata("llvm.loop", loop_id)
    b.position_at_end(after)
    return s, phis


def _emit_tile(b: Builder, rows: list[int], cols: list[int], KU: int, args: Any) -> None:
    """The part of a tile with the given rows and 16-wide columns."""
    A, a0, a_step, a_row, B, b0, ldb, F, f0, started, C, c0, ldc, K = args
    n = len(rows) * len(cols)

    def c_at(i: int, j: int) -> Any:
        return b.add(b.add(c0, b.mul(ldc, _k(i))), _k(LANES * j))

    def body(units: int) -> Any:
        def emit(s: Any, accs: list[Any]) -> list[Any]:
            out = list(accs)
            for u in range(units):
                su = b.add(s, _k(u)) if u else s
                at_b, at_a = b.add(b0, b.mul(su, ldb)), b.add(a0, b.mul(su, a_step))
                columns = [load(b, B, b.add(at_b, _k(LANES * j))) for j in cols]
                for ii, i in enumerate(rows):
                    a = splat(b, b.load(b.gep(A, [b.add(at_a, b.mul(a_row, _k(i))) if i else at_a]), align=4))
                    for jj, column in enumerate(columns):
                        lane = u * n + ii * len(cols) + jj
                        out[lane] = fma(b, a, column, out[lane])
            return out

        return emit

    from_row = b.icmp_signed("!=", started, _k(0))
    starts = [b.select(from_row, load(b, F, b.add(f0, _k(LANES * j))), _ZERO) for j in cols]
    first = [start for _ in rows for start in starts]
    accs = first + [_ZERO] * (n * (KU - 1))
    if KU == 1:
        _, accs = _loop(b, _k(0), K, 1, accs, body(1))
    else:  # KU is a power of two
        s, accs = _loop(b, _k(0), b.and_(K, _k(-KU)), KU, accs, body(KU))
        _, tail = _loop(b, s, K, 1, accs[:n], body(1))
        accs = tail + accs[n:]
        while len(accs) > n:
            half = len(accs) // 2
            accs = [b.fadd(x, y) for x, y in zip(accs[:half], accs[half:], strict=True)]
    for ii, i in enumerate(rows):
        for jj, j in enumerate(cols):
            store(b, C, c_at(i, j), accs[ii * len(cols) + jj])


def _tile(MR: int, NR: int, KU: int) -> Any:
    """An intrinsic for one tile; each row starts from the row at F[f0] if `started`, else from zeros.

    Where registers are few it is emitted in parts, with the same bits.
    """
    most_rows, most_cols = (MR, NR) if WIDE else (min(MR, 2), 2 if MR > 1 else max(1, 4 // KU))

    @intrinsic
    def tile(typing: Any, A: Any, a0: Any, a_step: Any, a_row: Any, B: Any, b0: Any, ldb: Any, F: Any, f0: Any,
             started: Any, C: Any, c0: Any, ldc: Any, K: Any) -> Any:  # fmt: skip
        def emit(context: Any, b: Builder, sig: Any, args: Any) -> Any:
            for i in range(0, MR, most_rows):
                for j in range(0, NR, most_cols):
                    rows, cols = range(i, min(MR, i + most_rows)), range(j, min(NR, j + most_cols))
                    _emit_tile(b, list(rows), list(cols), KU, args)
            return context.get_dummy_value()

        n = types.int64
        return types.void(Floats, n, n, n, Floats, n, n, Floats, n, n, Floats, n, n, n), emit

    return tile


_tile1x24, _tile1x16, _tile1x12, _tile1x8 = (_tile(1, width, 1) for width in (24, 16, 12, 8))
_tile1x4, _tile1x2, _tile1x1 = _tile(1, 4, 2), _tile(1, 2, 4), _tile(1, 1, 8)
_tile8x2, _tile8x1 = _tile(8, 2, 1), _tile(8, 1, 1)


@inner
def add_row(A, a0, K, B, b0, ldb, C, c0, width, direction):
    """C[16·width] += A[K] · B[K, :]; direction -1 takes the rows of B last to first."""
    if direction < 0:
        a0 += K - 1
        b0 += (K - 1) * ldb
        ldb = -ldb
    j = 0
    if width % 24 == 0:
        while j < width:
            _tile1x24(A, a0, direction, 1, B, b0 + 16 * j, ldb, C, c0 + 16 * j, 1, C, c0 + 16 * j, 0, K)
            j += 24
        return
    while j + 16 <= width:
        _tile1x16(A, a0, direction, 1, B, b0 + 16 * j, ldb, C, c0 + 16 * j, 1, C, c0 + 16 * j, 0, K)
        j += 16
    if j + 12 <= width:
        _tile1x12(A, a0, direction, 1, B, b0 + 16 * j, ldb, C, c0 + 16 * j, 1, C, c0 + 16 * j, 0, K)
        j += 12
    if j + 8 <= width:
        _tile1x8(A, a0, direction, 1, B, b0 + 16 * j, ldb, C, c0 + 16 * j, 1, C, c0 + 16 * j, 0, K)
        j += 8
    if j + 4 <= width:
        _tile1x4(A, a0, direction, 1, B, b0 + 16 * j, ldb, C, c0 + 16 * j, 1, C, c0 + 16 * j, 0, K)
        j += 4
    if j + 2 <= width:
        _tile1x2(A, a0, direction, 1, B, b0 + 16 * j, ldb, C, c0 + 16 * j, 1, C, c0 + 16 * j, 0, K)
        j += 2
    if j < width:
        _tile1x1(A, a0, direction, 1, B, b0 + 16 * j, ldb, C, c0 + 16 * j, 1, C, c0 + 16 * j, 0, K)


@inner
def _tiles(A, a0, a_step, a_row, M, B, b0, ldb, width, F, f0, started, C, c0, ldc, K):
    """C[M, 16·width] = (F +) Σ_s A[a0 + s·a_step + i·a_row] · B[s, :] over s < K."""
    j = 0
    while j < width:
        b, f, c = b0 + 16 * j, f0 + 16 * j, c0 + 16 * j
        i = 0
        if width - j >= 2:
            while i + 8 <= M:
                _tile8x2(A, a0 + i * a_row, a_step, a_row, B, b, ldb, F, f, started, C, c + i * ldc, ldc, K)
                i += 8
            while i < M:
                _tile1x2(A, a0 + i * a_row, a_step, a_row, B, b, ldb, F, f, started, C, c + i * ldc, ldc, K)
                i += 1
            j += 2
        else:
            while i + 8 <= M:
                _tile8x1(A, a0 + i * a_row, a_step, a_row, B, b, ldb, F, f, started, C, c + i * ldc, ldc, K)
                i += 8
            while i < M:
                _tile1x1(A, a0 + i * a_row, a_step, a_row, B, b, ldb, F, f, started, C, c + i * ldc, ldc, K)
                i += 1
            j += 1


@inner
def product(A, a0, a_step, a_row, M, B, b0, ldb, width, C, c0, ldc, K):
    """C[M, 16·width] = A·B with a_step = 1 (A's rows are a_row apart), Aᵀ·B with a_row = 1; K values are summed."""
    _tiles(A, a0, a_step, a_row, M, B, b0, ldb, width, C, c0, 0, C, c0, ldc, K)


@inner
def affine(A, a0, a_row, M, B, b0, ldb, width, F, f0, C, c0, ldc, K):
    """C[M, 16·width] = F + A·B: every row starts from the one row F; A's rows are a_row apart."""
    _tiles(A, a0, 1, a_row, M, B, b0, ldb, width, F, f0, 1, C, c0, ldc, K)


@intrinsic
def _transpose16(typing: Any, S: Any, s0: Any, lds: Any, D: Any, d0: Any, ldd: Any) -> Any:
    """D[d0 + j·ldd + i] = S[s0 + i·lds + j] for i, j < 16, by four rounds of block swaps."""

    def emit(context: Any, b: Builder, sig: Any, args: Any) -> Any:
        S, s0, lds, D, d0, ldd = args
        rows = [load(b, S, b.add(s0, b.mul(lds, _k(i)))) for i in range(LANES)]
        width = 8
        while width:
            keep = [k if not k & width else k - width + LANES for k in range(LANES)]
            swap = [k + width if not k & width else k + LANES for k in range(LANES)]
            keep, swap = (ir.Constant(IVEC, [ir.Constant(I32, k) for k in lanes]) for lanes in (keep, swap))
            for i in (i for i in range(LANES) if not i & width):
                low, high = rows[i], rows[i + width]
                rows[i], rows[i + width] = b.shuffle_vector(low, high, keep), b.shuffle_vector(low, high, swap)
            width //= 2
        for i, row in enumerate(rows):
            store(b, D, b.add(d0, b.mul(ldd, _k(i))), row)
        return context.get_dummy_value()

    n = types.int64
    return types.void(Floats, n, n, Floats, n, n), emit


@inner
def transpose(S, s0, rows, cols, D, d0):
    """D[cols, rows] = S[rows, cols]ᵀ, both dense; rows and cols are multiples of 16."""
    for i in range(0, rows, 16):
        for j in range(0, cols, 16):
            _transpose16(S, s0 + i * cols + j, cols, D, d0 + j * rows + i, rows)


@inner
def fill(A, a0, n, value):
    """A[n] = value, in whole vectors."""
    v = vset(value)
    for j in range(0, n, 16):
        vstore(A, a0 + j, v)


@inner
def copy(S, s0, D, d0, n):
    """D[n] = S[n], in whole vectors."""
    for j in range(0, n, 16):
        vstore(D, d0 + j, vload(S, s0 + j))


@inner
def add_to(S, s0, D, n):
    """D[n] += S[n], in whole vectors."""
    for j in range(0, n, 16):
        vstore(D, j, vload(D, j) + vload(S, s0 + j))


@inner
def column_sum(A, a0, ld, n, K, C, c0):
    """C[n] = Σ_s A[s, n] over s < K."""
    for j in range(0, n, 16):
        even = vset(np.float32(0))
        odd = even
        s = 0
        while s + 2 <= K:
            even = even + vload(A, a0 + s * ld + j)
            odd = odd + vload(A, a0 + (s + 1) * ld + j)
            s += 2
        if s < K:
            even = even + vload(A, a0 + s * ld + j)
        vstore(C, c0 + j, even + odd)
