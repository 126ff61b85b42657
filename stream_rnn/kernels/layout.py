"""Where everything lies: a learner's context, its weight arena and scratch, and a key's row.

A learner's context is a block of int64 words (C_… below). A key's row holds, in float32 words,
    header (16: int64 steps, pending label entries, update due, reset asked, newest step after a reset)
    live state | start states, one a k1 steps | inputs | labels | label weights | resets
where the last four are rings of `window` steps, slot = step mod window. The update runs the window forward
again with today's weights from the state stored when its first step was entered, so a row needs start
states only where an update will begin: (step + window) mod k1 = 0.
"""

from __future__ import annotations

from stream_rnn.kernels.cells import Cell

HEADER = 16  # float32 words; the int64 fields of the header:
STEPS, PENDING, DUE, RESET, CUT = range(5)

# What an event may be: a step (its label, if any, belongs to it), an advance (labels belong to earlier steps
# and come first), labels alone, or a prediction that changes nothing. TAKE: steps and late labels in one block,
# each late label learnt from at once.
STEP, ADVANCE, LABEL, PREDICT, TAKE = range(5)

# Words of the context. An address is of float32 unless named otherwise.
(
    C_I, C_H, C_REAL_H, C_O, C_OP, C_LABELS, C_K1, C_WINDOW, C_STARTS, C_LOSS, C_OPTIMIZER, C_CLASSES, C_NQ,
    C_MAX_UPDATES, C_SEGMENTS, C_N,  # C_SEGMENTS: see learn._segment; C_N: length of the weight arena
    C_OU, C_OC, C_OV, C_OB,  # offsets in the arena: U, c, V and the head's bias; b is at 0 and W behind it
    C_W, C_M, C_V,  # weights and moments
    C_GR, C_GR2, C_UT, C_VT, C_BIAS, C_X, C_ACT, C_D, C_DY, C_DHS, C_S, C_DH, C_IDS, C_SEEN, C_LABELLED,  # scratch
    C_LX, C_LA, C_LY,  # strides of X, of ACT and D, of DY
    C_REALS,  # float64, see R_…
    C_LR, C_LR_FROM, C_LR_TABLE,  # float64 learning rates; the first one's update count; more than one?
    C_LAGS,  # int64 a label entry
    C_BACKS,  # int64 an event of mode TAKE: how many steps back its label belongs; -1: it is a step
    C_REACH,  # steps that an update looks back from its newest label; less than the window where labels may be late
    C_COUNTERS,  # int64, see COUNTERS
    C_BASES, C_SHIFT, C_MASK, C_STRIDE,  # the table of rows: see keys.Rows
    R_LIVE, R_START, R_X, R_Y, R_WEIGHT, R_RESETS,  # offsets in a row
    C_WORDS,
) = range(60)  # fmt: skip

F_CLIP, F_DELTA, F_MOMENTUM, F_BETA1, F_BETA2, F_EPS, F_DECAY, F_POWER1, F_POWER2, F_QUANTILES = range(10)

COUNTERS = ("steps", "labels", "updates", "refused_x", "refused_y", "refused_updates", "expired")
N_STEPS, N_LABELS, N_UPDATES, N_REFUSED_X, N_REFUSED_Y, N_REFUSED_UPDATES, N_EXPIRED = range(7)


def up16(n: int) -> int:
    """n rounded up to whole vectors."""
    return -(-n // 16) * 16


def padded_outputs(O: int) -> int:
    """Rows of V in memory: see head.py."""
    return O if O < 16 else up16(O)


def _offsets(sizes: dict[str, int], start: int = 0) -> dict[str, int]:
    """Each part's offset, and the whole's length as "end"."""
    layout = {}
    for name, size in sizes.items():
        layout[name] = start
        start += size
    return layout | {"end": start}


def arena_layout(cell: Cell, I: int, H: int, O: int) -> dict[str, int]:
    """Offsets in the weights: b, W (I rows), U (H rows), c, V, the head's bias."""
    G, OP = cell.gates * H, padded_outputs(O)
    return _offsets({"b": G, "W": I * G, "U": H * G, "c": G, "V": OP * H, "head": up16(OP)})


def row_layout(cell: Cell, x_words: int, H: int, labels: int, k1: int, window: int) -> dict[str, int]:
    """Offsets of the parts of a key's row."""
    S = cell.states * H
    layout = _offsets({"live": S, "start": -(-window // k1) * S, "x": window * x_words, "y": window * labels,
                     "weight": window * labels, "resets": window}, HEADER)  # fmt: skip
    # inputs are read in whole vectors, so 16 words must follow where the last of them begins
    return layout | {"end": max(layout["end"], layout["y"] + 16)}


def scratch_layout(
    cell: Cell, x_words: int, H: int, O: int, n: int, window: int, classes: int = 0
) -> dict[str, int]:
    """Offsets in a learner's scratch; "lx", "la" and "ly" are strides. Strides avoid powers of two on purpose."""
    S, ly, W = cell.states * H, up16(padded_outputs(O)), window
    lx, la = up16(x_words), cell.activations * H + 16
    parts = _offsets({"GR": n, "GR2": n, "UT": cell.gates * H * H, "VT": ly * H, "BIAS": cell.gates * H,
                      "X": W * lx + 16, "ACT": W * la, "D": W * la, "DY": W * ly, "DHS": W * H, "S": (W + 1) * S,
                      "DH": 2 * H, "IDS": up16(W), "SEEN": classes, "LABELLED": up16(W)})  # fmt: skip
    return parts | {"lx": lx, "la": la, "ly": ly}
