"""A head over the tokens of an image: attentive probing, with learned queries.

A row is a layer of tokens, such as grid4: T tokens x_t of width D, one after the other. With A queries u_a:

    a_t = softmax over t of u_a x_t + c_a
    z   = W [sum a_t x_t of each query, one after the other] + b

With one query for each class, z_c = w_c sum a_t x_t + b_c, the sum under the weights of the class's own query. A score
of a learned query with a linear key is linear in x, and so has such a product.
"""

from torch import Tensor, nn

from featcache.heads import HeadConfig


class TokenAttention(nn.Module):
    """Weighted means of the tokens, one for each query, then a linear layer."""

    def __init__(self, width: int, tokens: int, queries: int, classes: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.queries = nn.Linear(width, queries)
        self.output = nn.Linear(queries * width, classes)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the logits (images, classes) of rows (images, tokens x width)."""
        logits: Tensor = self.output(attend(rows, self.tokens, self.queries).flatten(1))
        return logits


class TokenAttentionByClass(nn.Module):
    """A weighted mean of the tokens for each class, and the class's own weights on it."""

    def __init__(self, width: int, tokens: int, classes: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.queries = nn.Linear(width, classes)
        self.output = nn.Linear(width, classes)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the logits (images, classes) of rows (images, tokens x width)."""
        pooled = attend(rows, self.tokens, self.queries)  # (images, classes, width)
        return (pooled * self.output.weight).sum(dim=2) + self.output.bias


def attend(rows: Tensor, tokens: int, queries: nn.Module) -> Tensor:
    """Return the weighted means of the tokens, (images, queries, width).

    Args:
        rows: (images, tokens x width).
        tokens: of an image.
        queries: tokens (images, tokens, width) -> scores (images, tokens, queries).
    """
    x = rows.reshape(rows.shape[0], tokens, -1)  # `len` would be a constant in an ONNX file
    weights = queries(x).softmax(dim=1)
    means: Tensor = weights.transpose(1, 2) @ x
    return means


def build_attention(config: HeadConfig, width: int, classes: int) -> nn.Module:
    """Return the module of a head over tokens.

    Args:
        config: the head's settings.
        width: of an embedding, all tokens together.
        classes: how many there are.
    """
    if not config.tokens or width % config.tokens:
        raise ValueError(f"{config.tokens} tokens do not divide an embedding of {width} numbers")
    if not config.queries:
        return TokenAttentionByClass(width // config.tokens, config.tokens, classes)
    return TokenAttention(width // config.tokens, config.tokens, config.queries, classes)
