from rsa.library.encoder import Encoder as Encoder
from rsa.library.encoder import load_encoder as load_encoder
from rsa.library.features import features as features
from rsa.library.features import knn as knn
from rsa.library.features import list_images as list_images
from rsa.library.method import build as build

HOMES: dict[str, str]
