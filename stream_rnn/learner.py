"""Learner: numbers in, numbers out. A recurrent network whose hidden state stays live, one a key, and which
makes a truncated-BPTT update every k1 steps over the last k2 steps (Williams & Peng 1990; Sutskever 2013,
section 2.8.6), with shared weights. The work is done in kernels/learn.py; here are the checks and the memory.
"""

from __future__ import annotations

import logging
import math
import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stream_rnn import blob
from stream_rnn.errors import ConfigError, StateMismatch
from stream_rnn.kernels import layout as at
from stream_rnn.kernels import learn
from stream_rnn.kernels.cells import CELLS
from stream_rnn.kernels.head import LOSSES
from stream_rnn.kernels.optim import OPTIMIZERS
from stream_rnn.keys import KeySpace
from stream_rnn.records import Key
from stream_rnn.stopwatch import Stopwatch
from stream_rnn.torch_cells import CellLike, cell_again, is_custom, is_ours, label, ours

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
Rate = float | Callable[[int], float]

BACKENDS = ("auto", "fused", "torch")
_FORMAT = "learner/1"
_FLOAT32 = np.dtype(np.float32)
logger = logging.getLogger("stream_rnn.learner")


def _aligned(words: int, dtype: Any = np.float32) -> NDArray[Any]:
    """Zeros that begin on a cache line."""
    size = np.dtype(dtype).itemsize
    raw = np.zeros(words * size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + words * size].view(dtype)


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ConfigError(f"{name} = {value!r}: it must be a whole number of at least {least}")
    return int(value)


def _number(name: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False) -> float:
    fits = not isinstance(value, bool) and isinstance(value, numbers.Real) and math.isfinite(value)
    if not fits or not (low < value if open_low else low <= value) or not value < high:
        bounds = f"{'above' if open_low else 'at least'} {low:g}" + ("" if high == math.inf else f" and below {high:g}")
        raise ConfigError(f"{name} = {value!r}: it must be a number {bounds}")
    return float(value)


def _weight(value: Any) -> float:
    return value if type(value) is float and 0 <= value < math.inf else _number("weight", value, 0)


def _choice(name: str, value: Any, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ConfigError(f"{name} = {value!r}: it must be one of {', '.join(map(repr, choices))}")
    return str(value)


def _is_for_torch(backend: Any = "auto", device: Any = "cpu", cell: CellLike = "gru", **others: Any) -> bool:
    """Whether a Learner with these arguments is a TorchLearner: asked for, or of a cell that we have no kernel for."""
    if backend == "auto":
        return bool(device != "cpu" or (is_custom(cell) and not is_ours(cell)))
    return bool(backend == "torch")


class Learner:
    """A recurrent network that learns online, one hidden state and one ring of recent steps a key.

    A step enters an input x (inputs,), float32, or one class index with input_kind="classes"; it gives ŷ
    (outputs,), float32, made before anything is learnt from that step. After every k1-th step of a key an update
    runs the last min(t, k2 + horizon - 1) steps again with today's weights, from the state that was stored
    when the first of them was entered, back-propagates the mean loss of the label entries that came since the
    last update, clips the gradient's norm and takes an optimizer step. So each label enters exactly one update.

    Equations, names and layout of parameters are torch's (nn.GRU, nn.LSTM, nn.RNN, then nn.Linear).
    One learner belongs to one thread at a time; kernels release the GIL, so several learners run in parallel.

    loss: "squared"; "huber", the pseudo-Huber loss δ²(√(1 + (e/δ)²) - 1); "quantile", with ŷ = every level of
    `quantiles` for the first target, then for the next; "cross_entropy", where y is a class index and ŷ logits.
    lr: a float, or a function of the number of updates made so far. weight_decay: adamw only, 0.01 by default.
    clip: largest norm of the gradient, None for no clipping. max_updates: predict on, learn no more after it.
    wait: so many steps more are kept for labels that come late; an update looks back `k2 + horizon - 1` steps from
    the newest step it has a label of. It costs memory a key, hardly time.
    keyspace: share another's keys and slots (a model that keeps more than a network a key).

    cell: "gru", "lstm" or "elman"; or an nn.Module (x, state) → (output, state), a class or function (inputs, hidden)
    that makes one, or "module:Class" that names one: torch_cells.py has the protocol. torch's GRU, LSTM and tanh RNN
    of one layer run on our kernels, from the module's weights; any other is torch's to compute. backend: "torch" has
    torch compute ours too. device: "cuda" for a GPU, with up to `batch` events of different keys at a time.

    Raises ConfigError (a ValueError) for an impossible argument, UnsupportedCPU without AVX2 + FMA or Arm64.

    >>> learner = Learner(inputs=2, hidden=16, seed=1)
    >>> y_hat = learner.step([0.5, -1.0], 0.25, key="pump")
    >>> y_hat.shape, learner.counters["steps"]
    ((1,), 1)
    """

    def __new__(cls, *arguments: Any, **settings: Any) -> Learner:
        """A TorchLearner where torch has to compute the cell."""
        if cls is Learner and _is_for_torch(**settings):
            from stream_rnn.torch_backend import TorchLearner

            return object.__new__(TorchLearner)
        return object.__new__(cls)

    def __init__(
        self,
        inputs: int,
        outputs: int = 1,
        *,
        cell: CellLike = "gru",
        hidden: int = 32,
        k1: int = 8,
        k2: int = 32,
        horizon: int = 1,
        loss: str = "squared",
        delta: float = 1.0,
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        optimizer: str = "adam",
        lr: Rate = 1e-3,
        momentum: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float | None = None,
        clip: float | None = 1.0,
        seed: int = 0,
        input_kind: str = "real",
        zero_head: bool = False,
        max_updates: int | None = None,
        wait: int = 0,
        keyspace: KeySpace | None = None,
        backend: str = "auto",
        device: str = "cpu",
        batch: int | None = None,
    ) -> None:
        self.inputs = _whole("inputs", inputs, 1)
        self.outputs = _whole("outputs", outputs, 1)
        self.k1 = _whole("k1", k1, 1)
        self.k2 = _whole("k2", k2, 1)
        if self.k2 < self.k1:
            raise ConfigError(f"k2 = {k2} is less than k1 = {k1}: an update looks back over at least the k1 steps "
                              f"since the last one; set k2 to {k1} or more")
        self.horizon = _whole("horizon", horizon, 1)
        self.wait = _whole("wait", wait, 0)
        self.reach = self.k2 + self.horizon - 1
        self.window = self.reach - -self.wait // self.k1 * self.k1  # start states lie as without waiting
        self.loss = _choice("loss", loss, tuple(LOSSES))
        self.delta = _number("delta", delta, 0, open_low=True)
        self.quantiles = tuple(_number("quantiles", q, 0, 1, open_low=True) for q in quantiles)
        self.label_width = self.outputs
        if self.loss == "quantile":
            if not self.quantiles or self.outputs % len(self.quantiles):
                raise ConfigError(f"outputs = {outputs} with {len(self.quantiles)} quantiles: loss='quantile' gives "
                                  "each target one output a level; outputs must be a multiple of the number of levels")
            self.label_width = self.outputs // len(self.quantiles)
        elif self.loss == "cross_entropy":
            self.label_width = 1
            if self.outputs < 2:
                raise ConfigError(f"outputs = {outputs}: loss='cross_entropy' needs one output a class, at least 2")
        self.optimizer = _choice("optimizer", optimizer, tuple(OPTIMIZERS))
        self.momentum = _number("momentum", momentum, 0, 1)
        if self.momentum and self.optimizer != "sgd":
            raise ConfigError(f"momentum = {momentum!r} belongs to optimizer='sgd'; {optimizer} has betas")
        try:
            beta1, beta2 = betas
        except (TypeError, ValueError):
            raise ConfigError(f"betas = {betas!r}: it must be two numbers") from None
        self.betas = (_number("betas[0]", beta1, 0, 1), _number("betas[1]", beta2, 0, 1))
        self.eps = _number("eps", eps, 0, open_low=True)
        if weight_decay is not None and self.optimizer != "adamw":
            raise ConfigError(f"weight_decay = {weight_decay!r} belongs to optimizer='adamw', not {optimizer!r}")
        decay = 0.01 if weight_decay is None else weight_decay
        self.weight_decay = _number("weight_decay", decay, 0) if self.optimizer == "adamw" else None
        self.seed = _whole("seed", seed, 0)
        self.input_kind = _choice("input_kind", input_kind, ("real", "classes"))
        if not isinstance(zero_head, bool):
            raise ConfigError(f"zero_head = {zero_head!r}: it must be True or False")
        self.zero_head = zero_head
        self.max_updates = None if max_updates is None else _whole("max_updates", max_updates, 0)
        self.keyspace = KeySpace() if keyspace is None else keyspace
        self.stopwatch: Stopwatch | None = None
        self.watch: Callable[..., None] | None = None  # sees each block's first event before it (gradient_reach.py)
        self.backend = _choice("backend", backend, BACKENDS)
        self._x_words = 1 if self.input_kind == "classes" else self.inputs
        self._weights: dict[str, Floats] = {}  # that a module of our cells began with
        self._take_cell(cell, _whole("hidden", hidden, 1), device, batch)

        self._allocate()
        self.lr = lr
        self.clip = clip
        self._initialise()

    def _take_cell(self, cell: CellLike, hidden: int, device: str, batch: int | None) -> None:
        """One of ours, by name or as the torch module that it is, whose weights it then begins with."""
        if is_custom(cell):
            found = ours(cell, self.inputs, hidden, self.seed)
            if found is None:
                raise ConfigError(f"backend = {self.backend!r}: there is no kernel for cell = {label(cell)}; "
                                  "backend = 'torch' takes any nn.Module")
            cell, hidden, self._weights = found
        if device != "cpu" or batch not in (None, 1):
            raise ConfigError(f"device = {device!r}, batch = {batch!r}: our kernels take one event at a time, on the "
                              "CPU; these two go with backend = 'torch'")  # fmt: skip
        self.cell = _choice("cell", cell, tuple(CELLS))
        self.hidden = hidden

    # Memory -------------------------------------------------------------------------------------------

    def _table(self, row: dict[str, int]) -> None:
        """The table of keys' rows, laid out as `row` says, and what every learner counts and takes events in."""
        template = np.zeros(row["end"], np.float32)
        template[row["y"] : row["weight"]] = np.nan
        name = next(f"learner{i or ''}" for i in range(len(self.keyspace.tables) + 1)
                    if f"learner{i or ''}" not in self.keyspace.tables)  # fmt: skip
        self._rows = self.keyspace.table(name, np.float32, row["end"], template)
        self._live = slice(row["live"], row["start"])
        self._counters = np.zeros(len(at.COUNTERS), np.int64)
        self._lags = np.zeros(self.label_width, np.int64)

        # one event's arguments, at addresses that never change
        self._slot = np.zeros(1, np.int64)
        self._x, self._y = np.zeros(self._x_words, np.float32), np.zeros(self.label_width, np.float32)
        self._no_label = np.full(self.label_width, np.nan, np.float32)
        self._weight, self._out = np.ones(1, np.float32), np.zeros(self.outputs, np.float32)
        self._held: float | None = None  # the object that _weight was last set from
        self._taken = np.zeros(1, np.float32)
        self._x_shape = (self._x_words,)
        self._one = tuple(a.ctypes.data for a in (self._slot, self._x, self._y, self._weight, self._out))
        self._no_label_address = self._no_label.ctypes.data

    def _allocate(self) -> None:
        self._kernel = learn.step_many(self.cell)
        cell, H, I, O = CELLS[self.cell], at.up16(self.hidden), self.inputs, self.outputs
        self._arena = at.arena_layout(cell, I, H, O)
        row = at.row_layout(cell, self._x_words, H, self.label_width, self.k1, self.window)
        n = self._arena["end"]
        classes = I if self.input_kind == "classes" else 0
        scratch = at.scratch_layout(cell, self._x_words, H, O, n, self.window, at.up16(classes))
        self._table(row)

        self._w, self._m, self._v = (_aligned(n) for _ in range(3))
        self._scratch = _aligned(scratch["end"])
        self._seen = self._scratch[scratch["SEEN"] : scratch["SEEN"] + classes]  # classes that have had a gradient
        self._reals = np.zeros(at.F_QUANTILES + len(self.quantiles), np.float64)
        self._rates = np.zeros(1, np.float64)
        decay = self.weight_decay or 0.0
        self._reals[: at.F_QUANTILES] = [0, self.delta, self.momentum, *self.betas, self.eps, decay, 1, 1]
        self._reals[at.F_QUANTILES :] = self.quantiles

        here = self._scratch.ctypes.data
        context = self._context = np.zeros(at.C_WORDS, np.int64)
        words = {
            at.C_I: I, at.C_H: H, at.C_REAL_H: self.hidden, at.C_O: O, at.C_OP: at.padded_outputs(O),
            at.C_LABELS: self.label_width, at.C_K1: self.k1, at.C_WINDOW: self.window,
            at.C_STARTS: -(-self.window // self.k1), at.C_LOSS: LOSSES[self.loss],
            at.C_OPTIMIZER: OPTIMIZERS[self.optimizer], at.C_CLASSES: self.input_kind == "classes",
            at.C_SEGMENTS: self._has_segments(), at.C_NQ: len(self.quantiles),
            at.C_MAX_UPDATES: -1 if self.max_updates is None else self.max_updates,
            at.C_N: n, at.C_OU: self._arena["U"], at.C_OC: self._arena["c"], at.C_OV: self._arena["V"],
            at.C_OB: self._arena["head"], at.C_W: self._w.ctypes.data, at.C_M: self._m.ctypes.data,
            at.C_V: self._v.ctypes.data, at.C_LX: scratch["lx"], at.C_LA: scratch["la"], at.C_LY: scratch["ly"],
            at.C_REALS: self._reals.ctypes.data, at.C_LAGS: self._lags.ctypes.data, at.C_REACH: self.reach,
            at.C_COUNTERS: self._counters.ctypes.data, at.C_SHIFT: self._rows.shift, at.C_MASK: self._rows.mask,
            at.C_STRIDE: self._rows.stride, at.R_LIVE: row["live"], at.R_START: row["start"], at.R_X: row["x"],
            at.R_Y: row["y"], at.R_WEIGHT: row["weight"], at.R_RESETS: row["resets"],
        }  # fmt: skip
        parts = ("GR", "GR2", "UT", "VT", "BIAS", "X", "ACT", "D", "DY", "DHS", "S", "DH", "IDS", "SEEN", "LABELLED")
        words |= {word: here + 4 * scratch[p] for word, p in zip(range(at.C_GR, at.C_LABELLED + 1), parts, strict=True)}
        for word, value in words.items():
            context[word] = value
        self._bases: Any = None
        self._address = context.ctypes.data

    def _has_segments(self) -> bool:
        """Whether a whole segment of steps can be taken at once, to the same bits: learn._segment has the reasons."""
        classes = self.input_kind == "classes" and self.loss == "cross_entropy" and self.outputs % 256 == 0
        return classes and self.window == self.k1 and self.k1 % 8 == 0

    def _initialise(self) -> None:
        """Weights as torch initialises them, from our own generator."""
        rng = np.random.default_rng(self.seed)
        bound = 1.0 / math.sqrt(self.hidden)
        start = {k: rng.uniform(-bound, bound, v.shape) for k, v in self.parameters.items()}
        if self.zero_head:
            start |= {k: np.zeros_like(v) for k, v in start.items() if k.startswith("head.")}
        self.load_parameters(start if not self._weights else self._weights | self._first_head())

    def _first_head(self) -> dict[str, Floats]:
        """The head that a cell with weights of its own begins with, whatever computes the cell."""
        rng, bound = np.random.default_rng(self.seed), 0.0 if self.zero_head else 1.0 / math.sqrt(self.hidden)
        shapes = {"head.weight": (self.outputs, self.hidden), "head.bias": (self.outputs,)}
        return {name: rng.uniform(-bound, bound, shape).astype(np.float32) for name, shape in shapes.items()}

    def _run(self, n: int, slots: int, x: int, y: int, weights: int, out: int, hidden: int, mode: int) -> int:
        if self._rows.bases is not self._bases:
            self._bases = self._rows.bases
            self._context[at.C_BASES] = self._bases.ctypes.data
        if self._rates_run_out:
            self._extend_rates(n)
        if self.stopwatch is not None and mode in (at.STEP, at.ADVANCE):
            kernel = partial(self._kernel, self._address, n, slots, x, y, weights, out, hidden)
            return self.stopwatch.run(kernel, n, mode, at.PREDICT)
        return self._kernel(self._address, n, slots, x, y, weights, out, hidden, mode)  # type: ignore[no-any-return]

    # Settings that may change while learning ----------------------------------------------------------

    @property
    def lr(self) -> Rate:
        """Learning rate: a float, or a function of the number of updates so far."""
        return self._lr

    @lr.setter
    def lr(self, lr: Rate) -> None:
        self._context[at.C_LR_TABLE] = self._rates_run_out = callable(lr)
        if callable(lr):
            self._lr: Rate = lr
            self._rates = np.zeros(0)
            self._context[at.C_LR_FROM] = 0
            self._extend_rates(1)
        else:
            self._lr = _number("lr", lr, 0)
            self._rates = np.array([self._lr])
            self._context[at.C_LR] = self._rates.ctypes.data

    def _extend_rates(self, n: int) -> None:
        """Tabulate the lr function for n events; one makes at most two updates, one that was due and its own."""
        assert callable(self._lr)
        now, first = int(self._counters[at.N_UPDATES]), int(self._context[at.C_LR_FROM])
        if first <= now and now + 2 * n <= first + len(self._rates):
            return
        self._rates = np.array([_number(f"lr({u})", self._lr(u), 0) for u in range(now, now + max(2 * n, 1024))])
        self._context[at.C_LR_FROM] = now
        self._context[at.C_LR] = self._rates.ctypes.data

    @property
    def clip(self) -> float | None:
        """Largest norm of the gradient; None: not clipped."""
        return self._clip

    @clip.setter
    def clip(self, clip: float | None) -> None:
        self._clip = None if clip is None else _number("clip", clip, 0, open_low=True)
        self._reals[at.F_CLIP] = 0.0 if self._clip is None else self._clip

    # One event ----------------------------------------------------------------------------------------

    def step(self, x: ArrayLike, y: ArrayLike | None = None, key: Key = None, *, weight: float = 1.0) -> Floats:
        """Predict, advance the key's state, label the step, update if due; ŷ (outputs,) from before the update.

        x (inputs,), or a class index. y (label_width,) or a number if that is 1; NaN entries and None are
        unlabelled. Refused and counted, with nothing moved: x not finite (returns NaN), y infinite or no class.
        `weight` multiplies this label's loss; the mean still divides by the number of label entries.
        """
        return self._event(x, y, key, weight, at.STEP)

    def advance(self, x: ArrayLike, key: Key = None) -> Floats:
        """Enter a step whose label may come later; ŷ (outputs,). An update that is due runs before it."""
        return self._event(x, None, key, 1.0, at.ADVANCE)

    def _event(self, x: ArrayLike, y: ArrayLike | None, key: Key, weight: float, mode: int) -> Floats:
        slot_at, x_at, y_at, weight_at, out_at = self._one
        self._take_x(x)
        if y is None:
            y_at = self._no_label_address
        else:
            self._take_y(y)
            if weight is not self._held:  # the same object as last time: the usual default
                self._weight[0] = _weight(weight)
                self._held = weight
        slot = self.keyspace.find(key)
        if slot >= 0:
            self.keyspace.touch(slot)
        elif self._usable(self._x, None if y is None else self._y):
            slot = self.keyspace.enter(key)
        self._slot[0] = slot
        self._run(1, slot_at, x_at, y_at, weight_at, out_at, 0, mode)
        return self._out.copy()

    def predict(self, x: ArrayLike, key: Key = None) -> Floats:
        """ŷ (outputs,) for x, from the key's state as it is; changes nothing, creates nothing."""
        slot_at, x_at, _, weight_at, out_at = self._one
        self._take_x(x)
        self._slot[0] = self.keyspace.find(key)
        self._run(1, slot_at, x_at, self._no_label_address, weight_at, out_at, 0, at.PREDICT)
        return self._out.copy()

    def label(self, y: ArrayLike, key: Key = None, back: int = 0, *, weight: float = 1.0) -> bool:
        """Give the step `back` steps ago its label; False if it was refused or that step can't be learnt from any more.

        A second label for an entry that still waits takes the place of the first.
        """
        back, weight = _whole("back", back, 0), _weight(weight)
        slot_at, _, y_at, weight_at, _ = self._one
        self._take_y(y)
        slot = self.keyspace.find(key)
        if slot < 0:
            self._counters[at.N_EXPIRED] += 1
            return False
        self.keyspace.touch(slot)
        self._slot[0], self._weight[0], self._held = slot, weight, None
        self._lags[:] = back
        self._run(1, slot_at, 0, y_at, weight_at, self._taken.ctypes.data, 0, at.LABEL)
        self._lags[:] = 0
        return bool(self._taken[0])

    def reset(self, key: Key = None) -> None:
        """The key's next step starts from the zero state; labels of earlier steps still count."""
        slot = self.keyspace.find(key)
        if slot >= 0:
            row = self._rows.row(slot)
            row[self._live] = 0
            row[: at.HEADER].view(np.int64)[at.RESET] = 1
            self.keyspace.touch(slot)

    def state(self, key: Key = None) -> Floats:
        """The key's hidden state (hidden,); LSTM (2, hidden): h, c. Zeros for a key not seen."""
        cell, slot = CELLS[self.cell], self.keyspace.find(key)
        whole = np.zeros((cell.states, at.up16(self.hidden)), np.float32)
        if slot >= 0:
            whole[:] = self._rows.row(slot)[self._live].reshape(whole.shape)
        return whole[:, : self.hidden].copy() if cell.states > 1 else whole[0, : self.hidden].copy()

    # Blocks -------------------------------------------------------------------------------------------

    def step_many(
        self,
        X: ArrayLike,
        Y: ArrayLike | None = None,
        keys: Sequence[Key] | None = None,
        *,
        weights: ArrayLike | None = None,
        return_hidden: bool = False,
        slots: NDArray[np.int64] | None = None,
    ) -> Any:
        """`step` for each of n events, bit for bit: ŷ (n, outputs), and hidden states (n, hidden) if asked for.

        X (n, inputs), or (n,) class indices; Y (n, label_width) or (n,); keys: n keys, None for one unnamed;
        weights (n,). slots: as for `advance_many`.
        """
        return self._block(X, Y, keys, weights, return_hidden, at.STEP, slots)

    def advance_many(
        self,
        X: ArrayLike,
        labels: ArrayLike | None = None,
        keys: Sequence[Key] | None = None,
        *,
        lags: Sequence[int] | None = None,
        weights: ArrayLike | None = None,
        return_hidden: bool = False,
        slots: NDArray[np.int64] | None = None,
    ) -> Any:
        """For each event in turn: give labels (n, label_width) to earlier steps, run the due update, advance.

        Entry j of an event's labels belongs to its key's step lags[j] back (0: the last one before this event).
        Bit for bit what `label` and `advance` one by one give; but an event that has something to refuse, in X or
        in its labels, is refused whole. Returns as `step_many`.

        slots (n,), int64: what `keyspace.enter_many(keys)` gave, where a model has entered the keys already.
        """
        if lags is not None:
            if len(lags) != self.label_width:
                raise ConfigError(f"lags has {len(lags)} entries and a label has {self.label_width}")
            self._lags[:] = [_whole("lags", lag, 0) for lag in lags]
        try:
            return self._block(X, labels, keys, weights, return_hidden, at.ADVANCE, slots)
        finally:
            self._lags[:] = 0

    def take_many(
        self,
        X: ArrayLike,
        Y: ArrayLike | None,
        back: ArrayLike,
        keys: Sequence[Key] | None = None,
        *,
        return_hidden: bool = False,
        slots: NDArray[np.int64] | None = None,
    ) -> Any:
        """Steps and late labels in one block, in order. Where back (n,) is -1 an event is a step, as in `step_many`.
        Where it is 0 or more, Y is the label of the key's step so many steps ago, learnt from as soon as k1 label
        entries wait; X is not looked at then, and ŷ and the hidden state are NaN.
        """
        backs = np.ascontiguousarray(back, np.int64)
        x = self._cast("X", X)
        if backs.shape != (len(x),):
            raise ConfigError(f"back has shape {backs.shape}: for {len(x)} events it must be ({len(x)},)")
        self._use_backs(backs)
        try:
            return self._block(x, Y, keys, None, return_hidden, at.TAKE, slots)
        finally:
            self._lags[:] = 0

    def _use_backs(self, backs: NDArray[np.int64]) -> None:
        self._context[at.C_BACKS] = backs.ctypes.data

    def look_many(self, X: ArrayLike, slots: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """ŷ (n, outputs) and hidden states (n, hidden) of steps that keys might make next; changes nothing."""
        out: tuple[Floats, Floats] = self._block(X, None, None, None, True, at.PREDICT, slots)
        return out

    def _block(self, X: ArrayLike, Y: ArrayLike | None, keys: Sequence[Key] | None, weights: ArrayLike | None,
               return_hidden: bool, mode: int, slots: NDArray[np.int64] | None = None) -> Any:  # fmt: skip
        x = self._cast("X", X)
        if x.ndim == 1 and self.input_kind == "classes":
            x = x[:, None]
        if x.ndim != 2 or x.shape[1] != self._x_words:
            wanted = "(n,) class indices" if self.input_kind == "classes" else f"(n, {self.inputs})"
            raise ConfigError(f"X has shape {x.shape}: it must be {wanted}")
        n = len(x)
        name = "labels" if mode == at.ADVANCE else "Y"
        y = np.full((n, self.label_width), np.nan, np.float32) if Y is None else self._cast(name, Y)
        if y.ndim == 1 and self.label_width == 1:
            y = y[:, None]
        if y.shape != (n, self.label_width):
            raise ConfigError(f"{name} has shape {y.shape}: for {n} events it must be ({n}, {self.label_width})")
        w = np.ones(n, np.float32) if weights is None else self._cast("weights", weights)
        if w.shape != (n,):
            raise ConfigError(f"weights has shape {w.shape}: for {n} events it must be ({n},)")
        if weights is not None and not (fit := (w >= 0) & (w < np.inf)).all():
            raise ConfigError(f"weights holds {w[~fit][0]}: a weight is a number of at least 0")
        if isinstance(keys, np.ndarray):
            keys = keys.tolist()
        if isinstance(keys, (str, bytes)):
            raise TypeError(f"keys = {keys!r}: it must be a sequence of keys, one an event")
        if keys is not None and len(keys) != n:
            raise ConfigError(f"keys has {len(keys)} entries for {n} events")
        if slots is None:
            slots = self.keyspace.enter_many([None] * n if keys is None else keys, lambda: self._usable(x, y))
        out = np.empty((n, self.outputs), np.float32)
        hidden = np.empty((n, self.hidden), np.float32) if return_hidden else None
        if self.watch is not None and n:
            self.watch(self, int(slots[0]), x[0], y[0], float(w[0]), mode)
        self._through(slots, x, y, w, out, hidden, mode)
        return out if hidden is None else (out, hidden)

    def _through(self, slots: NDArray[np.int64], x: Floats, y: Floats, w: Floats, out: Floats, hidden: Floats | None,
                 mode: int) -> None:  # fmt: skip
        self._run(len(slots), slots.ctypes.data, x.ctypes.data, y.ctypes.data, w.ctypes.data, out.ctypes.data,
                  0 if hidden is None else hidden.ctypes.data, mode)  # fmt: skip

    # Checks of input ----------------------------------------------------------------------------------

    def _cast(self, name: str, value: ArrayLike) -> Floats:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name} has dtype {array.dtype}: it must hold real numbers")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, which is refused
            return np.ascontiguousarray(array, np.float32)

    def _take_x(self, x: ArrayLike) -> None:
        if type(x) is np.ndarray and x.dtype is _FLOAT32 and x.shape == self._x_shape:
            self._x[:] = x  # the quick way for the usual case
            return
        array = self._cast("x", x)
        if array.shape != self._x_shape and not (array.ndim == 0 and self._x_words == 1):
            wanted = "one class index" if self.input_kind == "classes" else f"({self.inputs},)"
            raise ConfigError(f"x has shape {array.shape}: it must be {wanted}")
        self._x[:] = array

    def _take_y(self, y: ArrayLike) -> None:
        if type(y) is np.ndarray and y.dtype is _FLOAT32 and y.shape == self._y.shape:
            self._y[:] = y
            return
        if type(y) is float and self.label_width == 1 and abs(y) < 1e38:
            self._y[0] = y
            return
        array = self._cast("y", y)
        if array.shape != self._y.shape and not (array.ndim == 0 and self.label_width == 1):
            raise ConfigError(f"y has shape {array.shape}: it must be ({self.label_width},)"
                              + (" or a number" if self.label_width == 1 else ""))  # fmt: skip
        self._y[:] = array

    def _usable(self, x: Floats, y: Floats | None) -> Any:
        """Which of x (…, x words) and y (…, label_width) the kernel will not refuse; as it judges."""
        if self.input_kind == "classes":
            fine = ((x >= 0) & (x < self.inputs) & (x == np.floor(x))).all(-1)
        else:
            fine = np.isfinite(x).all(-1)
        if y is not None:
            bad = np.isinf(y)
            if self.loss == "cross_entropy":
                bad |= ~np.isnan(y) & ~((y >= 0) & (y < self.outputs) & (y == np.floor(y)))
            fine = fine & ~bad.any(-1)
        return fine

    # Parameters ---------------------------------------------------------------------------------------

    def _blocks(self) -> list[tuple[str, NDArray[Any], tuple[int, ...]]]:
        """(name, view of the arena, torch's gate of each of its column blocks); () for the head."""
        cell, H = CELLS[self.cell], at.up16(self.hidden)
        a = self._arena

        def view(start: str, stop: str) -> NDArray[Any]:
            return self._w[a[start] : a[stop]]

        return [
            ("weight_ih", view("W", "U").reshape(self.inputs, cell.gates, H), cell.order),
            ("weight_hh", view("U", "c").reshape(H, cell.gates, H), cell.recurrent_order),
            ("bias_ih", view("b", "W").reshape(1, cell.gates, H), cell.order),
            ("bias_hh", view("c", "V").reshape(1, cell.gates, H), cell.recurrent_order),
            ("head.weight", view("V", "head").reshape(-1, H), ()),
            ("head.bias", view("head", "end"), ()),
        ]

    def _slice(self, name: str) -> tuple[slice, ...]:
        """The part of a block of `_blocks` that is not padding."""
        H, O = slice(self.hidden), slice(self.outputs)
        return {"weight_hh": (H, slice(None), H), "head.weight": (O, H), "head.bias": (O,)}.get(
            name, (slice(None), slice(None), H)
        )

    @property
    def parameters(self) -> dict[str, Floats]:
        """Copies, float32, named and laid out as torch's: weight_ih (gates · hidden, inputs), weight_hh, bias_ih,
        bias_hh, head.weight (outputs, hidden), head.bias."""
        copies = {}
        for name, block, order in self._blocks():
            part = block[self._slice(name)]
            if order:
                back = np.argsort(order)
                part = np.moveaxis(part[:, back, :], 0, -1).reshape(-1, part.shape[0])
                part = part[:, 0] if name.startswith("bias") else part
            copies[name] = np.array(part, np.float32)
        return copies

    def load_parameters(self, parameters: Mapping[str, ArrayLike]) -> None:
        """Set weights by name, all or some; shapes as `parameters`. The optimizer's moments stay."""
        new = self._checked(parameters)
        for name, block, order in self._blocks():
            if name not in new:
                continue
            part = new[name]
            if order:
                part = part.reshape(len(order), self.hidden, -1).transpose(2, 0, 1)[:, order, :]
            block[self._slice(name)] = part
        learn.refresh(self.cell, self._address)

    def _checked(self, parameters: Mapping[str, ArrayLike]) -> dict[str, Floats]:
        """New weights as float32, all of a known name and its shape."""
        shapes = {name: p.shape for name, p in self.parameters.items()}
        new = {}
        for name, value in parameters.items():
            if name not in shapes:
                raise ConfigError(f"parameter {name!r} is unknown; there are {', '.join(shapes)}")
            new[name] = self._cast(f"parameter {name!r}", value)
            if new[name].shape != shapes[name]:
                raise ConfigError(f"parameter {name!r} has shape {new[name].shape}: it must be {shapes[name]}")
            if not np.isfinite(new[name]).all():
                raise ConfigError(f"parameter {name!r} holds a number that is not finite")
        return new

    def to_torch(self) -> torch.nn.Module:
        """A torch module with the same weights: `rnn` (nn.GRU, nn.LSTM or nn.RNN) and `head` (nn.Linear);
        forward(x (T, inputs), state) → (ŷ (T, outputs), state)."""
        from stream_rnn.torch_interop import to_torch

        return to_torch(self)

    def load_torch(self, module: torch.nn.Module) -> None:
        """Take the weights of a module that holds one nn.GRU, nn.LSTM or nn.RNN and one nn.Linear."""
        from stream_rnn.torch_interop import parameters_of

        self.load_parameters(parameters_of(module, self.cell))

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write one step of the network, with the state in and out, as an ONNX model: see onnx_export.py."""
        from stream_rnn import onnx_export

        onnx_export.write(self, path)

    # State --------------------------------------------------------------------------------------------

    @property
    def counters(self) -> dict[str, int]:
        """Events so far: steps, labels, updates; refused_x, refused_y, refused_updates (a loss or gradient that
        was not finite); expired (labels that came too late)."""
        return dict(zip(at.COUNTERS, map(int, self._counters), strict=True))

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that make a learner like this one; lr None where it is a function."""
        names = ("inputs", "outputs", "cell", "hidden", "k1", "k2", "horizon", "loss", "delta", "quantiles",
                 "optimizer", "momentum", "betas", "eps", "weight_decay", "clip", "seed", "input_kind", "zero_head",
                 "max_updates", "wait")  # fmt: skip
        return {name: getattr(self, name) for name in names} | {"lr": None if callable(self.lr) else self.lr}

    def shared_arrays(self) -> dict[str, NDArray[Any]]:
        """Live views of all that is not per key: weights and moments (padded), float64 scalars, counters."""
        return {"weights": self._w, "moment1": self._m, "moment2": self._v, "powers": self._powers,
                "counters": self._counters}  # fmt: skip

    @property
    def _powers(self) -> NDArray[np.float64]:
        """β1ᵗ and β2ᵗ."""
        return self._reals[at.F_POWER1 : at.F_POWER2 + 1]

    def load_shared(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Set all of `shared_arrays`, bit for bit."""
        self._check_shared(arrays)
        for name, mine in self.shared_arrays().items():
            mine[:] = arrays[name]
        if len(self._seen):
            rows = slice(self._arena["W"], self._arena["U"])
            moved = (self._m[rows] != 0) | (self._v[rows] != 0)
            self._seen[:] = moved.reshape(self.inputs, -1).any(axis=1)
        learn.refresh(self.cell, self._address)

    def _check_shared(self, arrays: dict[str, NDArray[Any]]) -> None:
        """StateMismatch if arrays are not what `shared_arrays` of such a learner gives."""
        for name, mine in self.shared_arrays().items():
            if name not in arrays or arrays[name].shape != mine.shape or arrays[name].dtype != mine.dtype:
                found = f"{arrays[name].dtype} {arrays[name].shape}" if name in arrays else "nothing"
                raise StateMismatch(f"state array {name!r}: {mine.dtype} {mine.shape} was wanted and {found} found; "
                                    "it was made with other settings")

    def state_arrays(self) -> dict[str, Any]:
        """Everything, as copies: {"shared": {name: array}, "keys": {"key": list, table: (keys, words)}}.

        `keyspace.changed_keys()` says which keys moved since `keyspace.clear_changed()`.
        """
        space = self.keyspace
        rows = {name: np.array([table.row(s) for s in space.slots.values()]).reshape(len(space), -1)
                for name, table in space.tables.items()}  # fmt: skip
        shared = {name: a.copy() for name, a in self.shared_arrays().items()}
        return {"shared": shared, "keys": {"key": list(space.slots), **rows}}

    def to_bytes(self) -> bytes:
        """The whole learner; `from_bytes` goes on bit for bit."""
        if others := self.keyspace.tables.keys() - {self._rows.name}:
            raise StateMismatch(f"this learner shares its keys with {', '.join(sorted(others))}: save the whole model")
        states = ((key, self.keyspace.get(key)) for key in self.keyspace.slots)
        return blob.pack(_FORMAT, self.settings, self.shared_arrays(), states)

    @classmethod
    def from_bytes(cls, raw: bytes, lr: Rate | None = None, *, cell: CellLike | None = None) -> Learner:
        """The learner that `to_bytes` saved. lr: needed where it was a function, cell: where it is not one of ours;
        neither can be saved, and nothing that a state names is run."""
        settings, arrays, states = blob.unpack(raw, _FORMAT)
        settings["cell"] = cell_again(settings["cell"], cell, "from_bytes(raw, cell=…)")
        if lr is not None:
            settings["lr"] = lr
        if settings["lr"] is None:
            raise ConfigError("lr was a function when this learner was saved: give it again, from_bytes(raw, lr=…)")
        learner = cls(**settings)
        learner.load_shared(arrays)
        learner.keyspace.load(states)
        return learner

    def __reduce__(self) -> tuple[Any, ...]:
        return Learner.from_bytes, (self.to_bytes(), self.lr)

    def __repr__(self) -> str:
        return (f"Learner({self.inputs} → {self.hidden} {self.cell} → {self.outputs}, k1={self.k1}, k2={self.k2}, "
                f"{len(self.keyspace)} keys, {self.counters['updates']} updates)")  # fmt: skip
