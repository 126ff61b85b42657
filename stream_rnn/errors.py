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
    │   └── SinkFenced                another owner has taken the shard: drop it without writing
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


class SinkError(StreamRnnError):
    """A sink failed in a way that a retry cannot mend."""


class SinkFenced(SinkError):
    """Another owner has taken this shard."""


class UnsupportedCPU(StreamRnnError):
    """This processor lacks the vector instructions that keep results the same everywhere."""
