"""TBPTT(k1, k2) in JAX: jit(scan), optax's clip_by_global_norm and adam, buffers donated.

The whole learner lives in one device structure (weights, optimizer, live state, ring of inputs, states and labels),
so that an event is one jitted call: `advance`, or on every k1-th event `learn`, which also updates. That beat
separate calls for forward and update. Called so, `JaxScan` serves events as they come. `JaxBlocks` compiles the loop
over the events too (a scan of k1 - 1 advances and one learn), which spares the dispatch of a call; it can only be had
where a whole block lies ready. The window's scan is unrolled in full: of 1, 4, 8 and 32, the fastest at H = 32 and 128.

As in torch_loop.py, the first k2 events only fill the window.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "head.weight", "head.bias")
GATES = {"gru": 3, "lstm": 4, "elman": 1}


def _cell(cell: str, from_x: Any, from_h: Any, state: Any) -> Any:
    """The new state: h, or [h, c] of the LSTM, as one vector."""
    if cell == "elman":
        return jnp.tanh(from_x + from_h)
    if cell == "gru":
        H = state.shape[0]
        r, z = jnp.split(jax.nn.sigmoid(from_x[: 2 * H] + from_h[: 2 * H]), 2)
        n = jnp.tanh(from_x[2 * H :] + r * from_h[2 * H :])
        return n + z * (state - n)
    i, f, g, o = jnp.split(from_x + from_h, 4)
    c = jax.nn.sigmoid(f) * state[state.shape[0] // 2 :] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jnp.concatenate([jax.nn.sigmoid(o) * jnp.tanh(c), c])


class JaxScan:
    """One stream, one output, squared loss; a jitted call an event."""

    def __init__(self, cell: str, inputs: int, hidden: int, k1: int, k2: int = 32, lr: float = 1e-3,
                 clip: float = 1.0, seed: int = 0) -> None:  # fmt: skip
        self.k1, self.k2, self.hidden, self.cell = k1, k2, hidden, cell
        self._optimizer = optax.chain(optax.clip_by_global_norm(clip), optax.adam(lr))
        rng = np.random.default_rng(seed)
        G, bound = GATES[cell] * hidden, hidden**-0.5
        shapes = [(G, inputs), (G, hidden), (G,), (G,), (1, hidden), (1,)]
        self._states = hidden * (2 if cell == "lstm" else 1)
        self._inputs = inputs
        self._events = 0
        self.load({n: rng.uniform(-bound, bound, s).astype(np.float32) for n, s in zip(NAMES, shapes, strict=True)})
        self._advance = jax.jit(self._advance_one, donate_argnums=0)
        self._learn = jax.jit(self._learn_one, donate_argnums=0)

    def load(self, parameters: dict[str, np.ndarray]) -> None:
        """Take weights by torch's names; everything else begins anew."""
        weights = {name: jnp.array(parameters[name]) for name in NAMES}
        self._all = {"weights": weights, "optimizer": self._optimizer.init(weights), "live": jnp.zeros(self._states),
                     "X": jnp.zeros((self.k2, self._inputs)), "starts": jnp.zeros((self.k2, self._states)),
                     "Y": jnp.zeros((self.k1, 1))}  # fmt: skip
        self._events = 0

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of the weights by torch's names."""
        return {name: np.array(w) for name, w in self._all["weights"].items()}

    def step_many(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """ŷ (n,) for X (n, inputs), each before its label in Y (n, 1) is learnt; n a multiple of k1."""
        predictions = []
        for x, y in zip(X, Y, strict=True):
            self._events += 1
            due = self._events % self.k1 == 0 and self._events > self.k2
            self._all, prediction = (self._learn if due else self._advance)(self._all, x, y)
            predictions.append(prediction)
        jax.block_until_ready(self._all)
        return np.array(predictions)

    def _advance_one(self, a: Any, x: Any, y: Any) -> Any:
        p = a["weights"]
        starts = jnp.concatenate([a["starts"][1:], a["live"][None]])
        live = _cell(self.cell, p["weight_ih"] @ x + p["bias_ih"],
                     p["weight_hh"] @ a["live"][: self.hidden] + p["bias_hh"], a["live"])  # fmt: skip
        prediction = p["head.weight"][0] @ live[: self.hidden] + p["head.bias"][0]
        X, Y = jnp.concatenate([a["X"][1:], x[None]]), jnp.concatenate([a["Y"][1:], y[None]])
        return {**a, "live": live, "starts": starts, "X": X, "Y": Y}, prediction

    def _learn_one(self, a: Any, x: Any, y: Any) -> Any:
        a, prediction = self._advance_one(a, x, y)
        gradients = jax.grad(self._loss)(a["weights"], a["X"], a["starts"][0], a["Y"])
        changes, optimizer = self._optimizer.update(gradients, a["optimizer"], a["weights"])
        return {**a, "weights": optax.apply_updates(a["weights"], changes), "optimizer": optimizer}, prediction

    def _loss(self, p: Any, X: Any, start: Any, Y: Any) -> Any:
        def step(state: Any, from_x: Any) -> Any:
            state = _cell(self.cell, from_x, p["weight_hh"] @ state[: self.hidden] + p["bias_hh"], state)
            return state, state[: self.hidden]

        _, states = jax.lax.scan(step, start, X @ p["weight_ih"].T + p["bias_ih"], unroll=self.k2)
        return jnp.mean((states[-self.k1 :] @ p["head.weight"].T + p["head.bias"] - Y) ** 2)


class JaxBlocks(JaxScan):
    """The same, with the loop over a block's events compiled too; one program a length of block."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._block = jax.jit(self._many, donate_argnums=0)

    def step_many(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        if self._events < self.k2:
            return super().step_many(X, Y)
        n = len(X) // self.k1
        self._all, predictions = self._block(self._all, X.reshape(n, self.k1, -1), Y.reshape(n, self.k1, 1))
        self._events += len(X)
        return np.array(predictions).ravel()

    def _many(self, a: Any, X: Any, Y: Any) -> Any:
        def segment(a: Any, xy: Any) -> Any:
            xs, ys = xy
            a, early = jax.lax.scan(lambda a, e: self._advance_one(a, *e), a, (xs[:-1], ys[:-1]))
            a, last = self._learn_one(a, xs[-1], ys[-1])
            return a, jnp.append(early, last)

        return jax.lax.scan(segment, a, (X, Y))
