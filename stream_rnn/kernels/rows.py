"""Two things that every pass over keys' rows needs: where a row lies, and a number within bounds."""

from stream_rnn.kernels.cache import inner


@inner
def row_at(slot, bases, place):
    """Address of a slot's row; a table is its slabs' addresses and [shift, mask, stride]: keys.Rows."""
    return bases[slot >> place[0]] + (slot & place[1]) * place[2]


@inner
def within(x, limit):
    """x within ±limit; NaN stays."""
    return min(max(x, -limit), limit)
