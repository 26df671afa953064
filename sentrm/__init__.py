"""sentrm: train sentence-level reward models and look inside them."""

from transformers import AutoConfig, AutoModel

from .configuration import SentenceRewardConfig
from .errors import SentrmError
from .modeling import SentenceRewardModel
from .preferences import PreferencePair, load_preferences
from .results import ScoredPair, ScoredResponse
from .scoring import Scorer

__all__ = [
    "PreferencePair",
    "ScoredPair",
    "ScoredResponse",
    "Scorer",
    "SentenceRewardConfig",
    "SentenceRewardModel",
    "SentrmError",
    "load_preferences",
]
__version__ = "0.1.0"

AutoConfig.register(SentenceRewardConfig.model_type, SentenceRewardConfig)
AutoModel.register(SentenceRewardConfig, SentenceRewardModel)
