from .base import Generator as Generator
from .conditioning import Conditioning as Conditioning
from .loading import load_generator as load_generator
from .registry import wrap_pipeline as wrap_pipeline
from .settings import Dtype as Dtype
from .settings import Loading as Loading
