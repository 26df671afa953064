"""The exceptions a caller of sentrm may want to catch. Every message says what was got, what was
expected, and what to do next."""


class SentrmError(ValueError):
    """Base of every error that bad input or bad configuration raises."""


class SegmenterError(SentrmError):
    """A segmenter specification that cannot be understood or loaded."""


class EncodingError(SentrmError):
    """A prompt and response that cannot be turned into token ids for this model."""


class ScoringError(SentrmError):
    """Something that is no prompt and response, or numbers of the model that are not finite."""


class PreferenceDataError(SentrmError):
    """Preference data that cannot be read: a missing file, unknown columns, or (strict) a bad row."""


class ModelLoadError(SentrmError):
    """A path or name that does not hold a sentence reward model."""


class AuditError(SentrmError):
    """An audit folder that cannot be written, continued or read, or a question it cannot answer."""


class ReviewError(SentrmError):
    """A review log that cannot be opened, read or written, or a verdict that it cannot take."""


class StaleVote(ReviewError):
    """A vote given on a page that did not know the annotator's newest one, `newest`; nothing was written."""

    def __init__(self, message: str, newest: object) -> None:
        super().__init__(message)
        self.newest = newest  # a reviews.log.Vote
