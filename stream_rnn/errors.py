"""Every error that stream_rnn raises on purpose, one tree.

    StreamRnnError
    ├── ConfigError (ValueError)      a setting that cannot be: names the field, the value and the fix
    ├── InputError (ValueError)       data that cannot be read at all: a missing file, column or format
    ├── StateError                    saved state that cannot be used
    │   ├── StateMismatch             it was made with other settings
    │   ├── StateDamaged              a checksum does not agree
    │   └── StateBusy                 another process owns it
    ├── RecoveryError                 position and outputs disagree; says what the choices are
    ├── SourceError, SinkError        a stream's other end failed in a way that a retry cannot mend
    │   ├── SourceGap                 what should come next is gone: the engine stops or skips (state.on_gap)
    │   └── SinkFenced                another owner has taken the shard: drop it without writing
    ├── ListenError                   the address of [http] cannot be listened on
    ├── Unavailable                   a stream's other end does not answer, or what it did last is not known:
    │                                 close the shard, wait, open it again from its checkpoint
    └── UnsupportedCPU                neither AVX2 + FMA nor 64-bit Arm

Bad events in a running stream are not errors: they are counted and dead-lettered (records.BadEvent).
"""


class StreamRnnError(Exception):
    """Base of all of ours; its text says what was found, what was wanted and what to do."""


class ConfigError(StreamRnnError, ValueError):
    """A setting or argument that cannot be."""


class InputError(StreamRnnError, ValueError):
    """Input that cannot be read at all (for one bad event, see records.BadEvent)."""


class StateError(StreamRnnError):
    """Saved state that cannot be used as it is."""


class StateMismatch(StateError):
    """State made with other settings than those asked for."""


class StateDamaged(StateError):
    """A checksum does not agree, or a part is missing."""


class StateBusy(StateError):
    """Another process owns this state."""


class RecoveryError(StreamRnnError):
    """Position and outputs disagree in a way that only a person can settle."""


class SourceError(StreamRnnError):
    """A source failed in a way that a retry cannot mend."""


class SourceGap(SourceError):
    """Records that were not read yet are gone from the source; the next there is begins at `resume_at`."""

    def __init__(self, text: str, resume_at: tuple[int, ...]) -> None:
        super().__init__(text)
        self.resume_at = resume_at


class SinkError(StreamRnnError):
    """A sink failed in a way that a retry cannot mend."""


class SinkFenced(SinkError):
    """Another owner has taken this shard."""


class Unavailable(StreamRnnError):
    """A stream's other end does not answer now; whether the last commit took effect may be unknown."""


class ListenError(StreamRnnError):
    """An address that the engine's own pages cannot be served at."""


class UnsupportedCPU(StreamRnnError):
    """This processor lacks the vector instructions that keep results the same everywhere."""
