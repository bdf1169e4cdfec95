"""Pre-trained weights, published or from a file, read strictly, with the settings they expect.

`recognise.py` reads a file by its content; a format's module (`keras.py`, `timm.py`, `deeplab.py`, `own.py`) turns it
into named tensors in PyTorch's layout, and says what each of our tensors is called there. `hdf5.py` and `tensorflow.py`
read the files of Keras and TensorFlow without these. `load.py` holds the two against each other. `saved.py` reads the
folder of a saved model, whose backbone is weights too. `published.py` is the table of published weights, which `hub.py`
downloads, as saved models; `models.py` has the networks of DeepLab's authors by name. `defaults.py` completes a run's
configuration by what its weights expect.
"""

from segzoo.backbones.weights.defaults import with_weights_settings
from segzoo.backbones.weights.find import recipe_of
from segzoo.backbones.weights.load import adapt_channels, fill, load_weights
from segzoo.backbones.weights.published import PUBLISHED, WeightsEntry
from segzoo.backbones.weights.source import Recipe

__all__ = [
    "PUBLISHED",
    "Recipe",
    "WeightsEntry",
    "adapt_channels",
    "fill",
    "load_weights",
    "recipe_of",
    "with_weights_settings",
]
