"""The GRU's algorithm in C (kernel.c), compiled here and called through ctypes."""

from __future__ import annotations

import ctypes
import functools
import pathlib
import platform
import shutil
import subprocess
import tempfile
from typing import Any

import numpy as np

_SOURCE = pathlib.Path(__file__).with_name("kernel.c")


class _Struct(ctypes.Structure):
    _fields_ = (
        [(name, ctypes.c_void_p) for name in ("weights", "m", "v", "gradient", "U_transposed", "X", "activations", "D",
                                              "S", "dh", "DY", "labels")]
        + [(name, ctypes.c_long) for name in ("inputs", "hidden", "steps", "first")]
        + [(name, ctypes.c_float) for name in ("lr", "clip", "power1", "power2")]
    )  # fmt: skip


def compiler() -> str | None:
    """gcc, if it is here."""
    return shutil.which("gcc")


@functools.cache
def library(hidden: int | None) -> ctypes.CDLL:
    """kernel.c compiled with a constant H, or for any (None)."""
    wide = ["-mprefer-vector-width=512"] if platform.machine() == "x86_64" else []
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/kernel.so"
        constant = [f"-DHIDDEN={hidden}"] if hidden else []
        subprocess.run(["gcc", "-O3", "-march=native", "-fno-math-errno", *wide, *constant, "-shared", "-fPIC",
                        "-o", made, str(_SOURCE), "-lm"], check=True)  # fmt: skip
        return ctypes.CDLL(made)


def aligned(n: int) -> np.ndarray:
    """n float32 zeros from a cache line's start on."""
    raw = np.zeros(n + 16, np.float32)
    return raw[(-raw.ctypes.data % 64) // 4 :][:n]


class CYardstick:
    """A window of `steps` steps with labels on the last `k1`; hidden a multiple of 16.

    Attributes are the arrays of kernel.c's struct.
    """

    def __init__(self, inputs: int, hidden: int, steps: int = 32, k1: int = 1, *, constant: bool = False,
                 lr: float = 1e-3, clip: float = 1.0, seed: int = 0) -> None:  # fmt: skip
        rng = np.random.default_rng(seed)
        G, la, lx = 3 * hidden, 4 * hidden + 16, (inputs + 16) // 16 * 16
        n = (1 + inputs) * G + hidden * G + G + hidden + 16
        sizes = {"weights": n, "m": n, "v": n, "gradient": n, "U_transposed": hidden * G, "X": steps * lx,
                 "activations": steps * la, "D": steps * la, "S": (steps + 1) * hidden, "dh": hidden, "DY": steps,
                 "labels": steps}  # fmt: skip
        self.arrays = {name: aligned(size) for name, size in sizes.items()}
        self.arrays["weights"][: n - 15] = rng.uniform(-1, 1, n - 15) / np.sqrt(hidden)
        X = self.arrays["X"].reshape(steps, lx)
        X[:, 0], X[:, 1 : 1 + inputs] = 1, rng.normal(size=(steps, inputs))
        self.arrays["labels"][:] = rng.normal(size=steps)
        self.struct = _Struct(**{k: a.ctypes.data for k, a in self.arrays.items()}, inputs=inputs, hidden=hidden,
                              steps=steps, first=steps - k1, lr=lr, clip=clip, power1=1.0, power2=1.0)  # fmt: skip
        self._library = library(hidden if constant else None)
        self._at = ctypes.byref(self.struct)

    def forward(self, n: int = 1) -> None:
        """The window forward, n times."""
        self._library.forwards(self._at, ctypes.c_long(n))

    def backward(self, n: int = 1) -> None:
        """The gradients of the window, n times."""
        self._library.backwards(self._at, ctypes.c_long(n))

    def update(self, n: int = 1) -> None:
        """Forward, loss, backward, clip, Adam, n times on the same window."""
        self._library.updates(self._at, ctypes.c_long(n))

    def load(self, parameters: dict[str, Any]) -> None:
        """Take weights of torch's names and layout (gates r, z, n) with one output."""
        H = self.struct.hidden
        order = np.r_[2 * H : 3 * H, 0 : 2 * H]  # n, r, z
        p = {k: np.asarray(v, np.float32) for k, v in parameters.items()}
        flat = [p["bias_ih"][order], p["weight_ih"][order].T.ravel(), p["weight_hh"].T.ravel(), p["bias_hh"],
                p["head.weight"].ravel(), p["head.bias"]]  # fmt: skip
        at = np.concatenate(flat)
        self.arrays["weights"][: len(at)] = at

    def parameters(self, of: str = "weights") -> dict[str, np.ndarray]:
        """The weights, or their gradients, by torch's names and in its layout."""
        I, H = self.struct.inputs, self.struct.hidden
        G = 3 * H
        ends = np.cumsum([G, I * G, H * G, G, H, 1])
        b, W, U, c, V, d = np.split(self.arrays[of][: ends[-1]], ends[:-1])
        order = np.r_[H : 3 * H, 0:H]  # from n, r, z to r, z, n
        return {"weight_ih": W.reshape(I, G).T[order], "weight_hh": U.reshape(H, G).T, "bias_ih": b[order],
                "bias_hh": c, "head.weight": V[None], "head.bias": d}  # fmt: skip
