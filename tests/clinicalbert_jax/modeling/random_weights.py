"""Random weights for the tests of what comes after them, drawn without compiling anything."""

import jax
import numpy as np

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.modeling import bert


def draw(config: ModelConfig, seed: int) -> bert.Params:
    """As `bert.init` shapes them, from numpy's generator: it takes 0.2 s, `bert.init` of one layer 4 s."""
    random = np.random.default_rng(seed)

    def array(path: jax.tree_util.KeyPath, like: jax.ShapeDtypeStruct) -> np.ndarray:
        name = path[-1].key
        if name in ("kernel", "embedding"):
            return random.normal(0, config.initializer_range, like.shape).astype(like.dtype)
        return np.full(like.shape, name == "scale", like.dtype)  # and every bias is zero

    return jax.tree.map_with_path(array, jax.eval_shape(lambda: bert.init(config, jax.random.key(0))))
