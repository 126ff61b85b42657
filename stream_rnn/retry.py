"""How long to wait before another try."""


def delay_s(attempt: int, first_s: float = 0.1, cap_s: float = 30.0) -> float:
    """Seconds to wait before retry `attempt` = 0, 1, 2, …: doubling, then capped.

    >>> [delay_s(n) for n in (0, 1, 9)]
    [0.1, 0.2, 30.0]
    """
    return min(cap_s, first_s * 2.0 ** min(attempt, 60))
