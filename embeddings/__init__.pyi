from .encode.encoder import Encoder as Encoder
from .encode.encoder import load as load
