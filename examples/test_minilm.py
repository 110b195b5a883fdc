"""The model in numpy gives the numbers that its reference gives (transformers, in float32; kept here)."""

import numpy as np
from minilm import DIM, MiniLM

# The first four of 384 numbers of each embedding.
REFERENCE = {
    "A cat sits on the mat.": (0.126535, -0.032851, -0.029060, 0.044407),
    "Vectors, set in stone.": (0.004104, 0.007025, -0.048347, -0.032829),
    "What happens after a power cut?": (-0.024301, 0.046440, 0.063937, 0.051075),
    "": (-0.118838, 0.048299, -0.002548, -0.011011),
    "ü naïve café 東京 😀": (0.079722, -0.006856, 0.056040, -0.033473),
    "word " * 700: (-0.008124, -0.095586, -0.038673, 0.049662),
}


def test_embeddings_are_those_of_the_reference():
    embed = MiniLM()
    together = embed(list(REFERENCE))
    assert together.shape == (len(REFERENCE), DIM) and together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(together[:, :4], list(REFERENCE.values()), atol=2e-6)
    alone = np.concatenate([embed([text]) for text in REFERENCE])
    np.testing.assert_allclose(alone, together, atol=2e-6, err_msg="a text is embedded as if it were alone")
    assert embed([]).shape == (0, DIM)


if __name__ == "__main__":
    test_embeddings_are_those_of_the_reference()
    print("the model gives the numbers of its reference")
