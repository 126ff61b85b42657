"""The second backend: any nn.Module as the cell, by the rule and in the rows of the first (kernels/learn.py).

What is kept per key lies in the same places of the same table (kernels/layout.py), but for a state that is as the cell
makes it, each of its tensors on a cache line of its own; weights and optimizer are torch's tensors, seen as named
arrays. The update: forward over the window with today's weights from the stored start state, autograd,
clip_grad_norm_, torch's own optimizer.

One thread, deterministic algorithms and one event after the other: the same events give the same bits at any cut of
the stream, as long as torch and the kind of CPU stay the same. With batch > 1 (the way to use a GPU) events of
different keys advance together between two updates; then the cut shows, to rounding.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stream_rnn.errors import ConfigError
from stream_rnn.kernels import layout as at
from stream_rnn.kernels.cells import CELLS
from stream_rnn.kernels.cells import Cell as Sizes
from stream_rnn.learner import Floats, Learner, Rate, _number, _whole, logger
from stream_rnn.torch_cells import CellLike, Tensor, cell_of, is_custom, kind_of, label, module_of, need_torch

_HUGE = 1e15  # as in kernels/learn.py: inputs of that size are tried before anything moves
VERSION = "torch"  # the array that says which torch a state was learnt with
_VERSION_BYTES = 32
BATCH_ON_GPU = 256


class TorchLearner(Learner):
    """A Learner whose cell is torch's to compute; `Learner(…, cell=MyCell())` makes one."""

    # What it is made of -------------------------------------------------------------------------------

    def _take_cell(self, cell: CellLike, hidden: int, device: str, batch: int | None) -> None:
        torch = self._torch = need_torch("backend = 'torch'")
        self.backend, self.device = "torch", _device(torch, device)
        self.batch = _whole("batch", batch or (1 if self.device == "cpu" else BATCH_ON_GPU), 1)
        self._given, self._given_hidden = cell, hidden
        torch.set_num_threads(1)
        module = module_of(cell, self.inputs, hidden, self.seed)
        self._module = cell_of(module, self.inputs, label(cell), self.input_kind == "classes")
        if self.batch > 1:
            self._module.check_batch()
        kind = kind_of(module)
        self.cell = kind or label(cell)
        self.hidden = self._module.width

    def _allocate(self) -> None:
        torch, cell = self._torch, self._module
        self._lengths = [math.prod(shape) for shape in cell.shapes]
        self._words = sum(self._lengths)
        self._row = at.row_layout(
            Sizes("", 0, 1, 0, (), ()), self._x_words, self._words, self.label_width, self.k1, self.window
        )
        self._table(self._row)
        self._starts = -(-self.window // self.k1)
        self._updating_s = 0.0  # for a stopwatch
        self._ring = np.arange(2 * self.window) % self.window
        self._no_state = np.zeros(self._words, np.float32)

        # Numbers pass between rows and torch through these: each tensor has an array over the same memory. They are
        # torch's own, on cache lines, for where a vector begins can change the order in which its sum is taken.
        B, W = self.batch, self.window
        self._nothing = np.zeros(B * max(self._lengths), np.float32)
        self._old, self._old_arrays = self._shared(B)
        self._new, self._new_arrays = self._shared(B)
        self._begin, self._begin_arrays = self._shared(1)
        x_shape, dtype = ((), torch.int64) if cell.classes else ((self.inputs,), torch.float32)
        self._x_batch, self._x_window = (torch.zeros(n, *x_shape, dtype=dtype) for n in (B, W))
        self._x_array = self._x_batch.numpy().reshape(B, -1)
        self._window_array = self._x_window.numpy().reshape(W, -1)
        self._zeros = [self._on_device(s) for s in cell.zeros(1)]

        self._head = torch.nn.Linear(self.hidden, self.outputs)
        cell.module.to(self.device)
        self._head.to(self.device)
        own = {"cell": cell.module, "head": self._head}
        self._tensors = {self._named(part, name): p for part, m in own.items() for name, p in m.named_parameters()}
        self._buffers = {self._named(part, name): b for part, m in own.items() for name, b in m.named_buffers()}
        for name, p in self._tensors.items():
            if p.dtype != torch.float32:
                raise ConfigError(f"cell = {self.cell}: its parameter {name!r} is {p.dtype}; it must be float32")
        self._learnt = {name: p for name, p in self._tensors.items() if p.requires_grad}
        self._optimizer = self._make_optimizer()

    def _shared(self, n: int) -> tuple[list[Tensor], list[Floats]]:
        """n states as tensors, and as arrays (n, numbers) over the same memory."""
        tensors = [self._torch.zeros(n, *shape) for shape in self._module.shapes]
        return tensors, [t.numpy().reshape(n, -1) for t in tensors]

    def _named(self, part: str, name: str) -> str:
        """A parameter's name: as one of our cells has it, else cell.… as in `to_torch`."""
        if part == "head":
            return f"head.{name}"
        return f"cell.{name}" if is_custom(self.cell) else name.removesuffix("_l0")

    def _make_optimizer(self) -> Any:
        """torch's, with its state there from the beginning."""
        torch, learnt = self._torch, list(self._learnt.values())
        made: Any
        if self.optimizer == "sgd":
            made = torch.optim.SGD(learnt, 1e-3, momentum=self.momentum, fused=True)
            for p in learnt if self.momentum else ():
                made.state[p] = {"momentum_buffer": torch.zeros_like(p)}
            return made
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        made = kind(learnt, 1e-3, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay or 0.0, fused=True)
        for p in learnt:
            made.state[p] = {"step": torch.zeros((), dtype=torch.float32, device=p.device),
                             "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}  # fmt: skip
        return made

    def _initialise(self) -> None:
        """As the kernels' learner, for a cell by its name; a module begins as it was made, and gets a head."""
        if is_custom(self._given):
            self.load_parameters(self._first_head())
        else:
            super()._initialise()

    # Settings that may change while learning ----------------------------------------------------------

    @property
    def lr(self) -> Rate:
        """Learning rate: a float, or a function of the number of updates so far."""
        return self._lr

    @lr.setter
    def lr(self, lr: Rate) -> None:
        if callable(lr):
            _number("lr(0)", lr(0), 0)
        self._lr = lr if callable(lr) else _number("lr", lr, 0)

    @property
    def clip(self) -> float | None:
        """Largest norm of the gradient; None: not clipped."""
        return self._clip

    @clip.setter
    def clip(self, clip: float | None) -> None:
        self._clip = None if clip is None else _number("clip", clip, 0, open_low=True)

    # Events -------------------------------------------------------------------------------------------

    def _run(self, n: int, slots: int, x: int, y: int, weights: int, out: int, hidden: int, mode: int) -> int:
        """One event, from where `Learner` puts its arguments."""
        label = self._no_label if y == self._no_label_address else self._y
        if mode == at.LABEL:
            self._taken[0] = self._labelled(int(self._slot[0]), label, float(self._weight[0]))
        else:
            self._through(self._slot, self._x[None], label[None], self._weight, self._out[None], None, mode)
        return 0

    def _labelled(self, slot: int, y: Floats, weight: float) -> bool:
        if not self._usable(np.zeros(self._x_words, np.float32), y):
            self._counters[at.N_REFUSED_Y] += 1
            return False
        row = self._rows.row(slot)
        return self._give_labels(row, row[: at.HEADER].view(np.int64), y, weight) == 0

    def _through(self, slots: NDArray[np.int64], x: Floats, y: Floats, w: Floats, out: Floats, hidden: Floats | None,
                 mode: int) -> None:  # fmt: skip
        """Take events through one after the other, as kernels/learn.py does; those of different keys together up to
        `batch`, where no update is between them."""
        usable, labelled = self._usable(x, None).tolist(), self._judged(y)
        large = (np.abs(x).max(1) >= _HUGE).tolist() if mode != at.LABEL else []
        batch: list[tuple[int, Any, Any]] = []  # to go forward: (event, its key's row, the row's header if it moves)
        together: set[int] = set()  # their slots

        def forward() -> None:
            self._forward(batch, x, y, w, out, hidden, mode)
            batch.clear()
            together.clear()

        began, updating_s = time.perf_counter(), self._updating_s
        with self._settled():
            for e, slot in enumerate(slots.tolist()):
                row = self._rows.row(slot) if slot >= 0 else None
                if slot in together:
                    forward()
                if mode == at.TAKE and self._backs[e] >= 0:
                    self._late(row, y[e], labelled[e], self._backs[e], forward if batch else None)
                    out[e] = np.nan
                    if hidden is not None:
                        hidden[e] = np.nan
                    continue
                if not usable[e] or (large[e] and not self._tried(row, x[e])):
                    self._refuse(e, out, hidden, mode)
                    continue
                full = len(batch) + 1 == self.batch
                head = None
                if row is not None and labelled[e] >= 0 and mode != at.PREDICT:
                    head = row[: at.HEADER].view(np.int64)
                    if mode == at.ADVANCE and labelled[e]:
                        self._give_labels(row, head, y[e], float(w[e]))
                    if head[at.DUE]:
                        if batch and head[at.PENDING] and self._learning:
                            forward()
                        self._update(row, head)
                    due = mode in (at.STEP, at.TAKE) and (head[at.STEPS] + 1) % self.k1 == 0
                    full = full or (due and self._learning and (labelled[e] > 0 or head[at.PENDING] > 0))
                batch.append((e, row, head))
                together.add(slot)
                if full:
                    forward()
            if batch:
                forward()
        if self.stopwatch is not None:
            self.stopwatch.update_s += self._updating_s - updating_s
            self.stopwatch.predict_s += time.perf_counter() - began - (self._updating_s - updating_s)

    def _late(self, row: Any, y: Floats, label: int, back: int, first: Callable[[], None] | None) -> None:
        """A label that came late is learnt from as soon as k1 entries wait; `first`: what has to go forward before."""
        if label < 0:
            self._counters[at.N_REFUSED_Y] += 1
        elif label > 0 and row is not None:
            head = row[: at.HEADER].view(np.int64)
            self._lags[:] = back
            self._give_labels(row, head, y, 1.0)
            self._lags[:] = 0
            if head[at.PENDING] >= self.k1:
                if first is not None:
                    first()
                self._update(row, head)

    def _use_backs(self, backs: NDArray[np.int64]) -> None:
        self._backs: list[int] = backs.tolist()

    def _refuse(self, e: int, out: Floats, hidden: Floats | None, mode: int) -> None:
        """An input that cannot be taken."""
        out[e] = np.nan
        if hidden is not None:
            hidden[e] = np.nan
        if mode != at.PREDICT:
            self._counters[at.N_REFUSED_X] += 1

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """torch as bits need it: one thread (a thread of ours may be new to it), nothing that is not deterministic."""
        torch = self._torch
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)
        loose = not torch.are_deterministic_algorithms_enabled()
        if loose:
            torch.use_deterministic_algorithms(True)
        try:
            with torch.no_grad():
                yield
        finally:
            if loose:
                torch.use_deterministic_algorithms(False)

    def _judged(self, y: Floats) -> list[int]:
        """Of each label: 0: nothing there; 1: usable; -1: to be refused."""
        fine = self._usable(np.zeros((len(y), self._x_words), np.float32), y)
        judged: list[int] = np.where(fine, ~np.isnan(y).all(1), -1).tolist()
        return judged

    def _tried(self, row: Any, x: Floats) -> bool:
        """Whether an input so large that it might overflow does not."""
        self._put(0, row, x)
        return self._computed(1)[2][0]

    def _put(self, b: int, row: Any, x: Floats) -> None:
        """A state (zeros for no row) and an input to place b of a batch."""
        live = self._no_state if row is None else row[self._live]
        start = 0
        for old, length in zip(self._old_arrays, self._lengths, strict=True):
            old[b] = live[start : start + length]
            start += length
        self._x_array[b] = x

    def _computed(self, n: int) -> tuple[Floats, Floats, list[bool]]:
        """The first n places of the batch one step on: ŷ, outputs of the cell, which are finite; states in _new."""
        whole = n == self.batch
        x, old = (self._x_batch, self._old) if whole else (self._x_batch[:n], [s[:n] for s in self._old])
        if self.device != "cpu":
            x, old = self._on_device(x), [self._on_device(s) for s in old]
        output, states = self._module.step(x, old)
        fine = [True] * n
        for new, array, state in zip(self._new, self._new_arrays, states, strict=True):
            (new if whole else new[:n]).copy_(state)
            numbers = array[:n].ravel()
            if not math.isfinite(np.dot(numbers, self._nothing[: len(numbers)])):  # in a third of isfinite's time
                fine = (np.array(fine) & np.isfinite(array[:n]).all(1)).tolist()
        return self._array(self._head(output)), self._array(output), fine

    def _on_device(self, tensor: Tensor) -> Tensor:
        return tensor if self.device == "cpu" else tensor.to(self.device)

    def _forward(self, batch: list[tuple[int, Any, Any]], x: Floats, y: Floats, w: Floats, out: Floats,
                 hidden: Floats | None, mode: int) -> None:  # fmt: skip
        """Take events of different keys one step on."""
        for b, (e, row, _) in enumerate(batch):
            self._put(b, row, x[e])
        y_hat, outputs, fine = self._computed(len(batch))
        for b, (e, row, head) in enumerate(batch):
            if not fine[b]:
                self._refuse(e, out, hidden, mode)
                continue
            out[e] = y_hat[b]
            if hidden is not None:
                hidden[e] = outputs[b]
            if head is None:
                self._counters[at.N_REFUSED_Y] += mode != at.PREDICT
                continue
            self._enter(row, head, x[e], b)
            if mode in (at.STEP, at.TAKE):
                self._give_labels(row, head, y[e], float(w[e]))
                if head[at.DUE]:
                    self._update(row, head)

    def _enter(self, row: Any, head: Any, x: Floats, b: int) -> None:
        """Make the step at place b of the batch the key's newest: start state, ring, live state."""
        at_row, t, k1, words = self._row, int(head[at.STEPS]), self.k1, self._words
        slot = t % self.window
        if (t + self.window) % k1 == 0:
            start = at_row["start"] + (t + self.window) // k1 % self._starts * words
            row[start : start + words] = row[self._live]
        first = at_row["x"] + slot * self._x_words
        row[first : first + self._x_words] = x
        first = at_row["y"] + slot * self.label_width
        row[first : first + self.label_width] = np.nan
        row[at_row["resets"] + slot] = head[at.RESET]
        if head[at.RESET]:
            head[at.CUT] = t
            head[at.RESET] = 0
        first = at_row["live"]
        for array, length in zip(self._new_arrays, self._lengths, strict=True):
            row[first : first + length] = array[b]
            first += length
        head[at.STEPS] = t + 1
        if (t + 1) % k1 == 0:
            head[at.DUE] = 1
        self._counters[at.N_STEPS] += 1

    def _give_labels(self, row: Any, head: Any, y: Floats, weight: float) -> int:
        """Put each label entry to the step lags[j] back; how many came too late to be learnt from."""
        places = self._row
        t, k1, window = int(head[at.STEPS]), self.k1, self.window
        next_update = t if head[at.DUE] else (t // k1 + 1) * k1
        late = 0
        for j, value in enumerate(y.tolist()):
            if math.isnan(value):
                continue
            step = t - 1 - int(self._lags[j])
            if step < 0 or step < next_update - window:
                late += 1
                continue
            entry = step % window * self.label_width + j
            if math.isnan(row[places["y"] + entry]):
                head[at.PENDING] += 1
            row[places["y"] + entry] = value
            row[places["weight"] + entry] = weight
            self._counters[at.N_LABELS] += 1
        self._counters[at.N_EXPIRED] += late
        return late

    # Updates ------------------------------------------------------------------------------------------

    @property
    def _learning(self) -> bool:
        return self.max_updates is None or self._counters[at.N_UPDATES] < self.max_updates

    def _update(self, row: Any, head: Any) -> None:
        """One update from the labels that wait in a row; it writes weights and optimizer, never a state."""
        pending = int(head[at.PENDING])
        head[at.DUE] = head[at.PENDING] = 0
        if not pending:
            return
        torch, updates, began = self._torch, int(self._counters[at.N_UPDATES]), time.perf_counter()
        loss = None
        if self._learning:
            with torch.enable_grad():
                loss = self._loss(row, head, pending)
        if loss is not None:
            for p in self._learnt.values():
                p.grad = None
            with torch.enable_grad():
                loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self._learnt.values(), self._clip or math.inf)
            if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
                self._counters[at.N_REFUSED_UPDATES] += 1
            else:
                lr = _number(f"lr({updates})", self._lr(updates), 0) if callable(self._lr) else self._lr
                self._optimizer.param_groups[0]["lr"] = lr
                self._optimizer.step()
                self._counters[at.N_UPDATES] += 1
        row[self._row["y"] : self._row["y"] + min(int(head[at.STEPS]), self.window) * self.label_width] = np.nan
        self._updating_s += time.perf_counter() - began

    def _loss(self, row: Any, head: Any, pending: int) -> Tensor | None:
        """The mean loss of the labels that wait, as a function of today's weights; None: the window has none."""
        places, t, window = self._row, int(head[at.STEPS]), self.window
        oldest = t - min(t, window)
        ring = self._ring[oldest % window : oldest % window + t - oldest]  # the window's places, in order
        y = row[places["y"] : places["weight"]].reshape(window, -1)[ring]
        begin = self._window_begin(t, y)
        ring, y, oldest = ring[begin - oldest :], y[begin - oldest :], begin
        self._window_array[: t - oldest] = row[places["x"] : places["y"]].reshape(window, -1)[ring]
        X = self._on_device(self._x_window)
        labelled = np.flatnonzero((y == y).any(1))  # noqa: PLR0124  NaN is no label
        cuts = [0, t - oldest]
        if head[at.CUT] > oldest:  # no gradient crosses a reset
            resets = row[places["resets"] : places["resets"] + window][ring]
            cuts = [0, *(np.flatnonzero(resets[1:]) + 1).tolist(), t - oldest]
        found = []
        for begin, end in pairwise(cuts):
            wanted = (labelled[(labelled >= begin) & (labelled < end)] - begin).tolist()
            if wanted:  # nothing behind the last label has a gradient
                states = self._start(row, oldest) if begin == 0 and oldest > 0 else [z.clone() for z in self._zeros]
                found.append(self._module.outputs(X[begin : begin + wanted[-1] + 1], states, wanted))
        if not found:
            return None
        y_hat = self._head(found[0] if len(found) == 1 else self._torch.cat(found))
        weights = row[places["weight"] : places["resets"]].reshape(window, -1)[ring[labelled]]
        return self._mean_loss(y_hat, y[labelled], weights, pending)

    def _mean_loss(self, p: Tensor, y: Floats, weights: Floats, pending: int) -> Tensor:
        """Mean of the losses of ŷ p (n, outputs) over the entries that are pending of y (n, label_width), NaN: none."""
        torch, F = self._torch, self._torch.nn.functional
        plain = pending == y.size and bool((weights == 1).all())  # the usual case, which needs fewer calls
        if not plain:
            there = ~np.isnan(y)
            y = np.where(there, y, np.float32(0))
            weights = np.where(there, weights / np.float32(pending), np.float32(0))
        target = self._on_device(torch.from_numpy(y))
        each = "mean" if plain else "none"
        if self.loss == "squared":
            losses = F.mse_loss(p, target, reduction=each)
        elif self.loss == "cross_entropy":
            losses = F.cross_entropy(p, target[:, 0].long(), reduction=each)
        elif self.loss == "huber":
            losses = self.delta**2 * (torch.sqrt(1 + ((p - target) / self.delta) ** 2) - 1)
        else:
            levels = torch.tensor(self.quantiles, device=p.device)
            e = target[:, :, None] - p.reshape(*y.shape, -1)
            losses = (levels * torch.relu(e) + (1 - levels) * torch.relu(-e)).mean(2)
        if plain:
            return losses.mean() if losses.dim() else losses
        return (losses.reshape(y.shape) * self._on_device(torch.from_numpy(weights))).sum()

    def _window_begin(self, t: int, y: Floats) -> int:
        """The first step of an update's window, whose start state was stored, or 0: as kernels/learn.py has it."""
        window, k1 = self.window, self.k1
        begin = oldest = t - min(t, window)
        if self.reach < window:
            labelled = np.flatnonzero((y == y).any(1))  # noqa: PLR0124
            begin = max(oldest, oldest + min(int(labelled[0]), int(labelled[-1]) + 1 - self.reach))
            begin -= (begin + window) % k1
        if begin <= oldest:
            begin = oldest + -(oldest + window) % k1 if oldest > 0 else 0
        return begin

    def _start(self, row: Any, step: int) -> list[Tensor]:
        """The state before that step, as it was then."""
        first = self._row["start"] + (step + self.window) // self.k1 % self._starts * self._words
        for array, length in zip(self._begin_arrays, self._lengths, strict=True):
            array[0] = row[first : first + length]
            first += length
        return [self._on_device(s) for s in self._begin]

    # Parameters ---------------------------------------------------------------------------------------

    def _array(self, tensor: Tensor) -> NDArray[Any]:
        """Its numbers: a view on the CPU."""
        found: NDArray[Any] = (tensor if self.device == "cpu" else tensor.cpu()).detach().numpy()
        return found

    @property
    def parameters(self) -> dict[str, Floats]:
        """Copies, float32, named as `to_torch` names them (cell.…, head.…); one of our cells as a Learner names it."""
        return {name: self._array(p).copy() for name, p in self._tensors.items()}

    def load_parameters(self, parameters: Mapping[str, ArrayLike]) -> None:
        """Set weights by name, all or some; shapes as `parameters`. The optimizer's moments stay."""
        new = self._checked(parameters)
        with self._torch.no_grad():
            for name, value in new.items():
                self._tensors[name].copy_(self._torch.from_numpy(value))

    def to_torch(self) -> Any:
        """A module with the same weights: `cell`, `head`; forward(x (T, inputs), state) → (ŷ (T, outputs), state)."""
        from stream_rnn.torch_interop import network_of

        return super().to_torch() if self.cell in CELLS else network_of(self)

    def load_torch(self, module: Any) -> None:
        """Take the weights of such a module, or of one that holds one cell of this class and one nn.Linear beside."""
        from stream_rnn.torch_interop import weights_in

        if self.cell in CELLS:
            super().load_torch(module)
        else:
            self.load_parameters(weights_in(module, self))

    def start_state(self) -> list[Tensor]:
        """The state's tensors at a series' start, for a batch of one."""
        return self._module.zeros(1)

    # State --------------------------------------------------------------------------------------------

    def state(self, key: Any = None) -> Floats:
        """The key's state: one tensor as it is, several of one shape stacked, others one after the other, flat."""
        slot, shapes = self.keyspace.find(key), self._module.shapes
        flat = (self._no_state if slot < 0 else self._rows.row(slot)[self._live]).copy()
        if len(shapes) == 1:
            return flat.reshape(shapes[0])
        return flat.reshape(len(shapes), *shapes[0]) if len(set(shapes)) == 1 else flat

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that make a learner like this one; a cell of the user's own is only named."""
        more = {"backend": "torch", "device": self.device, "batch": self.batch, "hidden": self._given_hidden}
        return super().settings | more

    def _state_tensors(self) -> dict[str, Tensor]:
        """All that is learnt and not per key."""
        kinds = {"exp_avg": "moment1", "momentum_buffer": "moment1", "exp_avg_sq": "moment2", "step": "updates"}
        found = {f"weights.{name}": p for name, p in self._tensors.items()}
        for name, p in self._learnt.items():
            found |= {f"{kinds[k]}.{name}": t for k, t in self._optimizer.state[p].items()}
        return found | {f"buffers.{name}": b for name, b in self._buffers.items()}

    def shared_arrays(self) -> dict[str, NDArray[Any]]:
        """All that is not per key, live views on the CPU: weights.…, moment1.…, moment2.…, updates.… (an optimizer's
        step), buffers.…, the counters, and which torch it was."""
        arrays = {name: self._array(t) for name, t in self._state_tensors().items()}
        return arrays | {"counters": self._counters, VERSION: _packed(self._torch.__version__)}

    def load_shared(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Set all of `shared_arrays`, bit for bit; another torch's are welcome, with a warning."""
        self._check_shared(arrays)
        saved, here = (bytes(a).rstrip(b"\0").decode() for a in (arrays[VERSION], _packed(self._torch.__version__)))
        if saved != here:
            logger.warning("this state was learnt with torch %s and goes on with %s: the same to rounding, not to the "
                           "bit, from here on", saved, here)  # fmt: skip
        with self._torch.no_grad():
            for name, tensor in self._state_tensors().items():
                tensor.copy_(self._torch.from_numpy(np.array(arrays[name])))
        self._counters[:] = arrays["counters"]

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.to_bytes(), self.lr, self._given)


def _restored(raw: bytes, lr: Rate, cell: CellLike) -> Learner:
    return Learner.from_bytes(raw, lr, cell=cell if is_custom(cell) else None)


def _packed(version: str) -> NDArray[np.uint8]:
    """A version as an array of one size."""
    return np.frombuffer(version.encode()[:_VERSION_BYTES].ljust(_VERSION_BYTES, b"\0"), np.uint8)


def _device(torch: Any, name: str) -> str:
    """The device, if there is such a one."""
    kind = name.partition(":")[0] if isinstance(name, str) else ""
    if kind not in ("cpu", "cuda"):
        raise ConfigError(f"device = {name!r}: it must be 'cpu', 'cuda' or 'cuda:N'")
    if kind == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(name.partition(":")[2] or 0) >= count:
            raise ConfigError(f"device = {name!r}: torch {torch.__version__} sees {count or 'no'} CUDA devices here; "
                              "use device = 'cpu', or install a torch made for this machine's GPU")  # fmt: skip
    return name
