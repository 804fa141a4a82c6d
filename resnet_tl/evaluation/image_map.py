"""A map of images: places in a plane, in which images with alike features lie close together."""

from __future__ import annotations

import numpy as np

LEAST, MOST = 5, 2000
"""Images of a map; for more than these the places take minutes."""
_PERPLEXITY, _STEPS = 30, 500


def map_of(features: np.ndarray) -> np.ndarray:
    """Places (n, 2) float32 of images with features (n, F) of length 1; ValueError for fewer than 5, or all alike.

    By t-SNE (van der Maaten and Hinton 2008, Visualizing Data using t-SNE), which begins with the principal components
    and a fixed seed: the same features give the same map. Distances within a group say something, those between groups
    little.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(features) < LEAST:
        raise ValueError(f"a map takes {LEAST} images, and there are {len(features)}")
    if not np.ptp(features, axis=0).any():
        raise ValueError("the features of all images are the same")
    perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
    with threadpool_limits(limits=1):  # its threads wait for each other in each of many small steps
        tsne = TSNE(init="pca", perplexity=perplexity, max_iter=_STEPS, random_state=0, n_jobs=1)
        return tsne.fit_transform(features).astype(np.float32)
