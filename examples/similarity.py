"""How similar sentences are, pair by pair: cosine similarity and Euclidean distance of their dense vectors.

python examples/similarity.py                                          # the bundled model, no network
python examples/similarity.py --model moka-ai/m3e-base                 # made for Chinese sentences; or BAAI/bge-m3
python examples/similarity.py 这个给我吧 多少钱 "How much is this?"     # which the two measures rank differently
"""

import argparse
from itertools import combinations

import numpy as np

from m3core import M3Encoder

SENTENCES = ["这个多少钱", "这个什么价格", "这个给我吧"]


def main() -> None:
    """Compares each sentence with each other one, and says whether both measures rank the pairs alike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sentences", nargs="*", default=SENTENCES)
    parser.add_argument("--model", default="m3-mini", help="hub id, directory, or m3-mini")
    options = parser.parse_args()

    # normalize=False leaves vectors as long as the model makes them. That is what M3E does unless it is told otherwise.
    vectors = M3Encoder(options.model, normalize=False).encode_documents(options.sentences, modes=["dense"]).dense
    lengths = np.linalg.norm(vectors, axis=1)
    pairs = list(combinations(range(len(options.sentences)), 2))
    cosine = [float(vectors[a] @ vectors[b] / (lengths[a] * lengths[b])) for a, b in pairs]
    distance = [float(np.linalg.norm(vectors[a] - vectors[b])) for a, b in pairs]

    print(f"{options.model}: {vectors.shape[1]} dimensions\n\nlength of vector")
    for sentence, length in zip(options.sentences, lengths, strict=True):
        print(f"{length:16.3f}  {sentence}")
    print("\ncosine  distance")
    by_cosine = sorted(range(len(pairs)), key=lambda i: -cosine[i])
    for i in by_cosine:
        print(f"{cosine[i]:6.3f}  {distance[i]:8.3f}  {' / '.join(options.sentences[place] for place in pairs[i])}")

    # Between vectors of unit length the distance says nothing new: |a - b|² = 2 - 2·cos(a, b) ranks as the cosine does.
    # Between others |a - b|² = |a|² + |b|² - 2·|a|·|b|·cos(a, b): two vectors that point in nearly the same direction
    # are far apart if one is long and the other short, and two short ones are close whatever their directions.
    # So compare M3E's vectors by cosine, or make the encoder with normalize=True.
    same = by_cosine == sorted(range(len(pairs)), key=lambda i: distance[i])
    print(f"\nCosine and distance rank these pairs {'alike' if same else 'differently'}.")


if __name__ == "__main__":
    main()
