"""A 16-lane float32 vector type for Numba, raw pointers, and the activations.

`vload(p, i)` and its kin work on `Pointer[float32]`; a vector lives in one AVX-512, two AVX or four NEON
registers. The order of every operation is fixed here (no fastmath), so results are the same bits on every
block size, alignment and, as far as tried, instruction set.

tanh: the rational approximation of degree 13/6 used by Eigen (absolute error below 3e-7, never beyond ±1);
sigmoid: the same, of half the argument (never outside 0 … 1); exp: Cephes' expf. NaN passes through all.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from stream_rnn.errors import UnsupportedCPU

LANES = 16
F32 = ir.FloatType()
I32 = ir.IntType(32)
I64 = ir.IntType(64)
VEC = ir.VectorType(F32, LANES)
IVEC = ir.VectorType(I32, LANES)

Builder = Any


def check_cpu(features: dict[str, bool] | None = None, machine: str | None = None) -> bool:
    """Whether vectors of 512 bits are at hand; raises UnsupportedCPU where not even AVX2 and FMA (or Arm's) are."""
    machine = machine or llvm.get_process_triple().split("-")[0]
    if machine in ("aarch64", "arm64"):
        return False
    features = llvm.get_host_cpu_features() if features is None else features
    if not (features.get("avx2") and features.get("fma")):
        raise UnsupportedCPU(f"this processor ({machine}) lacks AVX2 or FMA; stream_rnn's kernels need an x86-64 "
                             "processor with both (Intel since 2013, AMD since 2015) or a 64-bit Arm one")
    return bool(features.get("avx512f"))


WIDE = check_cpu()  # decides tile shapes, never results


class VectorType(types.Type):
    """Sixteen float32."""

    def __init__(self) -> None:
        super().__init__(name="vec16f32")


vec16 = VectorType()


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, VEC)


def const(x: float, of: Any = VEC) -> Any:
    """A vector constant with all lanes x."""
    return ir.Constant(of, [ir.Constant(of.element, x)] * LANES)


def call(b: Builder, name: str, result: Any, args: list[Any]) -> Any:
    """Call an LLVM intrinsic by name."""
    f = cgutils.get_or_insert_function(b.module, ir.FunctionType(result, [a.type for a in args]), name)
    return b.call(f, args)


def fma(b: Builder, x: Any, y: Any, z: Any) -> Any:
    """x·y + z, rounded once."""
    return call(b, "llvm.fma.v16f32", VEC, [x, y, z])


def splat(b: Builder, s: Any) -> Any:
    """All lanes s."""
    one = b.insert_element(ir.Constant(VEC, ir.Undefined), s, ir.Constant(I32, 0))
    return b.shuffle_vector(one, ir.Constant(VEC, ir.Undefined), const(0, IVEC))


def load(b: Builder, p: Any, i: Any) -> Any:
    return b.load(b.bitcast(b.gep(p, [i]), VEC.as_pointer()), align=4)


def store(b: Builder, p: Any, i: Any, v: Any) -> None:
    b.store(v, b.bitcast(b.gep(p, [i]), VEC.as_pointer()), align=4)


# Pointers --------------------------------------------------------------------------------------------

Floats = types.CPointer(types.float32)
Doubles = types.CPointer(types.float64)
Ints = types.CPointer(types.int64)


def _pointer_to(pointer: Any) -> Any:
    """An intrinsic: address (int64) → pointer."""

    @intrinsic
    def at(typing: Any, address: Any) -> Any:
        def emit(context: Any, b: Builder, sig: Any, args: Any) -> Any:
            return b.inttoptr(args[0], context.get_value_type(pointer))

        return pointer(types.int64), emit

    return at


floats_at = _pointer_to(Floats)
doubles_at = _pointer_to(Doubles)
ints_at = _pointer_to(Ints)


@intrinsic
def ahead(typing: Any, p: Any, n: Any) -> Any:
    """The pointer n elements further."""

    def emit(context: Any, b: Builder, sig: Any, args: Any) -> Any:
        return b.gep(args[0], [args[1]])

    return p(p, types.int64), emit


@intrinsic
def as_ints(typing: Any, p: Any) -> Any:
    """The same address as int64 words."""

    def emit(context: Any, b: Builder, sig: Any, args: Any) -> Any:
        return b.bitcast(args[0], I64.as_pointer())

    return Ints(p), emit


# Arithmetic ------------------------------------------------------------------------------------------


def _binary(op: Any, emit: Callable[..., Any]) -> None:
    @infer_global(op)
    class Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and all(isinstance(a, VectorType) for a in args):
                return signature(vec16, vec16, vec16)
            return None

    @lower_builtin(op, VectorType, VectorType)  # type: ignore[untyped-decorator]
    def lower(context: Any, b: Builder, sig: Any, args: Any) -> Any:
        return emit(b, *args)


_binary(operator.add, lambda b, x, y: b.fadd(x, y))
_binary(operator.sub, lambda b, x, y: b.fsub(x, y))
_binary(operator.mul, lambda b, x, y: b.fmul(x, y))
_binary(operator.truediv, lambda b, x, y: b.fdiv(x, y))


@intrinsic
def vload(typing: Any, p: Any, i: Any) -> Any:
    def emit(context: Any, b: Builder, sig: Any, args: Any) -> Any:
        return load(b, *args)

    return vec16(Floats, types.int64), emit


@intrinsic
def vstore(typing: Any, p: Any, i: Any, v: Any) -> Any:
    def emit(context: Any, b: Builder, sig: Any, args: Any) -> Any:
        store(b, *args)
        return context.get_dummy_value()

    return types.void(Floats, types.int64, vec16), emit


@intrinsic
def vset(typing: Any, s: Any) -> Any:
    def emit(context: Any, b: Builder, sig: Any, args: Any) -> Any:
        return splat(b, args[0])

    return vec16(types.float32), emit


@intrinsic
def vfma(typing: Any, x: Any, y: Any, z: Any) -> Any:
    def emit(context: Any, b: Builder, sig: Any, args: Any) -> Any:
        return fma(b, *args)

    return vec16(vec16, vec16, vec16), emit


@intrinsic
def vsum(typing: Any, v: Any) -> Any:
    """Sum of the lanes, by halves."""

    def emit(context: Any, b: Builder, sig: Any, args: Any) -> Any:
        v, n = args[0], LANES
        while n > 1:
            half = n // 2
            undefined = ir.Constant(ir.VectorType(F32, n), ir.Undefined)

            def part(first: int, v: Any = v, half: int = half, undefined: Any = undefined) -> Any:
                lanes = [ir.Constant(I32, first + k) for k in range(half)]
                return b.shuffle_vector(v, undefined, ir.Constant(ir.VectorType(I32, half), lanes))

            v, n = b.fadd(part(0), part(half)), half
        return b.extract_element(v, ir.Constant(I32, 0))

    return types.float32(vec16), emit


def _unary(build: Callable[..., Any]) -> Any:
    @intrinsic
    def f(typing: Any, x: Any) -> Any:
        def emit(context: Any, b: Builder, sig: Any, args: Any) -> Any:
            return build(b, args[0])

        return vec16(vec16), emit

    return f


def _clamp(b: Builder, x: Any, limit: float) -> Any:
    """x within ±limit; NaN stays (ordered compare and select, not minnum)."""
    x = b.select(b.fcmp_ordered(">", x, const(limit)), const(limit), x)
    return b.select(b.fcmp_ordered("<", x, const(-limit)), const(-limit), x)


def _polynomial(b: Builder, x: Any, coefficients: list[float]) -> Any:
    """Estrin's scheme, lowest degree first: the shortest chain of dependent operations, which is what a recurrence
    waits for."""
    terms = [const(c) for c in coefficients]
    while len(terms) > 1:
        pairs = zip(terms[::2], terms[1::2], strict=False)
        odd = terms[-1:] if len(terms) % 2 else []
        terms = [fma(b, high, x, low) for low, high in pairs] + odd
        x = b.fmul(x, x)
    return terms[0]


_TANH_P = [4.89352455891786e-03, 6.37261928875436e-04, 1.48572235717979e-05, 5.12229709037114e-08,
           -8.60467152213735e-11, 2.00018790482477e-13, -2.76076847742355e-16]  # fmt: skip
_TANH_Q = [4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06]
_TANH_LIMIT = 7.90531110763549805  # from here on it is 1
# sigmoid(x) = ½ + ½ tanh(½ x), with the halves in the coefficients
_SIGMOID_P = [0.25 * p * 0.25**k for k, p in enumerate(_TANH_P)]
_SIGMOID_Q = [q * 0.25**k for k, q in enumerate(_TANH_Q)]
_EXP_P = [5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3, 1.9875691500e-4]
_ROUNDER = 12582912.0  # 1.5 · 2²³: adding it rounds a float32 to a whole number, kept in its low bits


def _ratio(b: Builder, x: Any, over: list[float], under: list[float]) -> Any:
    """x · over(x²) / under(x²)."""
    square = b.fmul(x, x)
    return b.fdiv(b.fmul(_polynomial(b, square, over), x), _polynomial(b, square, under))


def _tanh(b: Builder, x: Any) -> Any:
    return _ratio(b, _clamp(b, x, _TANH_LIMIT), _TANH_P, _TANH_Q)


def _sigmoid(b: Builder, x: Any) -> Any:
    return b.fadd(const(0.5), _ratio(b, _clamp(b, x, 2 * _TANH_LIMIT), _SIGMOID_P, _SIGMOID_Q))


def _exp(b: Builder, x: Any) -> Any:
    """exp for |x| ≤ 87."""
    rounded = fma(b, x, const(1.44269504088896341), const(_ROUNDER))
    n = b.fsub(rounded, const(_ROUNDER))
    r = fma(b, n, const(-0.693359375), x)
    r = fma(b, n, const(2.12194440e-4), r)
    p = fma(b, _polynomial(b, r, _EXP_P), b.fmul(r, r), b.fadd(r, const(1.0)))
    exponent = b.shl(b.bitcast(rounded, IVEC), const(23, IVEC))
    return b.bitcast(b.add(b.bitcast(p, IVEC), exponent), VEC)


def _flush(smallest: float) -> Callable[..., Any]:
    """Magnitudes below `smallest` become 0, which keeps decaying numbers out of the slow denormals."""

    def build(b: Builder, x: Any) -> Any:
        magnitude = b.bitcast(b.and_(b.bitcast(x, IVEC), const(0x7FFFFFFF, IVEC)), VEC)
        return b.select(b.fcmp_ordered("<", magnitude, const(smallest)), const(0.0), x)

    return build


vtanh = _unary(_tanh)
vsigmoid = _unary(_sigmoid)
vexp = _unary(lambda b, x: _exp(b, _clamp(b, x, 87.0)))
vsqrt = _unary(lambda b, x: call(b, "llvm.sqrt.v16f32", VEC, [x]))
vflush_moment = _unary(_flush(1e-30))
vflush_gradient = _unary(_flush(1e-18))
