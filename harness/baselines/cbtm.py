"""Cluster-Branch-Train-Merge at inference: weights from the similarity of question and training texts.

Gururangan et al., arXiv 2303.14177, section 2.3: weights exp(-d^2 / T) of the distance d between the question and the
centre of an expert's cluster, in tf-idf space. Simplified: the clusters are the experts' own training texts instead of
k-means clusters of one corpus, and tf-idf is not reduced by an SVD. Data used: the training texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["TEMPERATURE", "cluster_weights"]

TEMPERATURE = 0.1
"""T of the paper. Vectors have length 1."""


def cluster_weights(
    texts: Sequence[Sequence[str]], questions: Sequence[str], temperature: float = TEMPERATURE
) -> NDArray[np.float64]:
    """The weight of each expert for each question.

    Args:
        texts: The training texts of each expert.
        questions: Of the items.
        temperature: T; the smaller, the larger the weight of the nearest expert.

    Returns:
        Weights [experts, questions] that sum to 1 over the experts.
    """
    from scipy.special import softmax
    from sklearn.feature_extraction.text import TfidfVectorizer

    # All words, one-digit numbers included: texts may be of any language, so there is no list of stop words.
    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")  # noqa: S106 - words
    vectorizer.fit(text for own in texts for text in own)
    centres = np.vstack([np.asarray(vectorizer.transform(own).mean(axis=0)) for own in texts])
    centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    vectors = vectorizer.transform(questions)
    # |a - b|^2 of vectors of length 1; a question without a word of the vocabulary is equally far from all.
    squared = 2.0 - 2.0 * np.asarray(vectors @ centres.T).T
    return np.asarray(softmax(-squared / temperature, axis=0))
