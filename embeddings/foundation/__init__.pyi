from .config import FoundationConfig as FoundationConfig
from .encoder import FoundationEncoder as FoundationEncoder
from .evaluation import evaluate as evaluate
from .evaluation import train_and_evaluate as train_and_evaluate
from .trainer import TrainedModel as TrainedModel
from .trainer import train as train
