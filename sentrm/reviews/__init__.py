"""Annotators' verdicts on preference pairs: the event log, who sees what next, agreement, what is carried home."""
