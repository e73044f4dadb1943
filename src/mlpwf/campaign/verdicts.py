"""Words that several stages share: verdicts on explored frames, and the channels of forces."""

ACCURATE, CANDIDATE, FAILED, BROKEN = "accurate", "candidate", "failed", "broken"
VERDICTS = (ACCURATE, CANDIDATE, FAILED, BROKEN)

CHANNELS = ("inter", "intra")
"""The net force on a molecule, and what is left inside it."""
