"""To be imported by a nursery: torch, and what making an optimizer imports besides, take three seconds."""

import cells

from stream_rnn.learner import Learner

Learner(2, cell=cells.Gated, hidden=4)
