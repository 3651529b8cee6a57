"""Which mechanisms the families of shared knobs act on."""

# scores are products of queries and keys
COMPARING = ("softmax", "top_k", "sparse", "talking_heads", "block_low_rank")
# … and each pair of tokens has one, so that a pair may be out of sight or far away
PAIRING = ("softmax", "top_k", "sparse", "talking_heads")
# weights are a softmax over keys
NORMALISING = ("softmax", "top_k", "talking_heads", "block_low_rank")
# … of pairs, so that an exponential may fade with distance
FADING = tuple(kind for kind in PAIRING if kind in NORMALISING)
# queries and keys of single tokens meet, so that they may be turned by their places
TURNING = (*PAIRING, "retention")
# weights are probabilities that can be dropped one by one
DROPPING = (*COMPARING, "low_rank")
# something is learned in r rows
RANKED = ("low_rank", "block_low_rank")
# a softmax of products, by explicit weights or by PyTorch's fused kernel
SOFT = ("softmax", "block_low_rank")
