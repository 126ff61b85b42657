"""Rows of many keys in one piece, and back: memory to memory, without the interpreter's lock."""

from stream_rnn.kernels.cache import kernel
from stream_rnn.kernels.rows import row_at
from stream_rnn.kernels.vec import floats_at


@kernel
def gather_rows(slots, bases, place, words, into, stride):
    """Copy the rows of these slots, `words` numbers of four bytes each, to the address `into`, `stride` bytes apart."""
    for i in range(len(slots)):
        row = floats_at(row_at(slots[i], bases, place))
        copy = floats_at(into + i * stride)
        for j in range(words):
            copy[j] = row[j]
