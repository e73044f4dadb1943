"""The verdicts on explored frames: words that select writes and that stopping and report read."""

ACCURATE, CANDIDATE, FAILED, BROKEN = "accurate", "candidate", "failed", "broken"
VERDICTS = (ACCURATE, CANDIDATE, FAILED, BROKEN)
