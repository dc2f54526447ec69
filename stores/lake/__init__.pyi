from .movielens import import_movielens as import_movielens
from .simulation.config import SimulationConfig as SimulationConfig
