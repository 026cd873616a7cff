"""Small transformers, in the forms that other people's code has."""

import math

import torch
from torch import nn
from torch.nn import functional as F

DIM, HEADS, HEAD_DIM = 16, 4, 4


class Tokens(nn.Module):
    """Tokens of images (3, 8, 8), one block of attention and an MLP, and a classifier."""

    def __init__(self, attention, hidden=24):
        super().__init__()
        self.patch = nn.Conv2d(3, DIM, 2, 2)
        self.norm1, self.attn = nn.LayerNorm(DIM), attention
        self.norm2, self.fc1, self.fc2 = (
            nn.LayerNorm(DIM),
            nn.Linear(DIM, hidden),
            nn.Linear(hidden, DIM),
        )
        self.norm, self.head = nn.LayerNorm(DIM), nn.Linear(DIM, 4)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.attn(self.norm1(x))
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return self.head(self.norm(x).mean(1))


class Fused(nn.Module):
    """One layer for queries, keys and values, as timm's; ``how`` is its forward."""

    def __init__(self, how, **modules):
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = HEADS, HEAD_DIM, DIM
        self.how = how
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.proj(self.how(self, x))


class Separate(nn.Module):
    """A layer each for queries, keys and values, as BERT's; ``how`` is its forward."""

    def __init__(self, how):
        super().__init__()
        self.heads, self.head_dim, self.how = HEADS, HEAD_DIM, how
        self.query, self.key, self.value, self.proj = (nn.Linear(DIM, DIM) for _ in range(4))

    def forward(self, x):
        return self.proj(self.how(self, x))


class Multihead(nn.Module):
    """PyTorch's own attention; ``call`` are the arguments of its call."""

    def __init__(self, call=None, **options):
        super().__init__()
        self.call = call or {}
        self.mix = nn.MultiheadAttention(DIM, HEADS, **options)

    def forward(self, x):
        return self.mix(x, x, x, **self.call)[0]


def timm_style(a, x):
    count, tokens, _ = x.shape
    qkv = a.qkv(x).reshape(count, tokens, 3, a.num_heads, a.head_dim).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    x = F.scaled_dot_product_attention(q, k, v)
    return x.transpose(1, 2).reshape(count, tokens, a.attn_dim)


def by_hand(a, x):
    qkv = a.qkv(x).unflatten(-1, (3, -1, a.head_dim)).permute(2, 0, 3, 1, 4)
    q, k, v = qkv[0], qkv[1], qkv[2]
    attention = (q * a.head_dim**-0.5 @ k.mT).softmax(dim=-1)
    return (attention @ v).transpose(1, 2).flatten(2)


def heads_first(a, x):
    """Each head's queries, keys and values stand together."""
    qkv = a.qkv(x).unflatten(-1, (-1, 3 * a.head_dim)).transpose(1, 2)
    q, k, v = qkv.chunk(3, -1)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def normed(a, x):
    count, tokens, _ = x.shape
    qkv = a.qkv(x).reshape(count, tokens, 3, a.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    x = F.scaled_dot_product_attention(a.norm(q), a.norm(k), v)
    return x.transpose(1, 2).reshape(count, tokens, -1)


def bert_style(a, x):
    def split(y):
        return y.view(*y.shape[:-1], a.heads, a.head_dim).transpose(1, 2)

    q, k, v = split(a.query(x)), split(a.key(x)), split(a.value(x))
    attention = F.softmax(torch.matmul(q, k.transpose(-1, -2)) / a.head_dim**0.5, dim=-1)
    mixed = torch.matmul(attention, v).transpose(1, 2).contiguous()
    return mixed.view(*mixed.shape[:-2], -1)


def biased(a, x):
    """Swin's: windows, a bias for each head and each distance of two tokens, and a mask."""
    x = x.unflatten(1, (2, 8)).flatten(0, 1)
    count, tokens, _ = x.shape
    qkv = a.qkv(x).reshape(count, tokens, 3, a.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    scores = q @ k.transpose(-2, -1) * a.head_dim**-0.5 + position_bias(a)
    scores = scores.view(-1, 2, a.num_heads, tokens, tokens) + a.mask.unsqueeze(1).unsqueeze(0)
    scores = scores.view(-1, a.num_heads, tokens, tokens).softmax(-1)
    x = (scores @ v).transpose(1, 2).reshape(count, tokens, -1)
    return x.unflatten(0, (-1, 2)).flatten(1, 2)


def position_bias(a):
    bias = a.table[a.index.view(-1)].view(8, 8, -1)
    return bias.permute(2, 0, 1).contiguous().unsqueeze(0)


def biased_and_fused(a, x):
    x = x.unflatten(1, (2, 8)).flatten(0, 1)
    q, k, v = a.qkv(x).unflatten(-1, (3, -1, a.head_dim)).permute(2, 0, 3, 1, 4).unbind(0)
    x = F.scaled_dot_product_attention(q, k, v, attn_mask=position_bias(a))
    return x.transpose(1, 2).flatten(2).unflatten(0, (-1, 2)).flatten(1, 2)


def with_table(how, kind=nn.Parameter):
    """Return attention with a table of position biases, and a mask for each window."""
    net, places = Fused(how), torch.arange(8)
    table = torch.linspace(-1, 1, 15 * HEADS).view(15, HEADS).sin()
    net.table = kind(table)
    net.register_buffer("index", places[:, None] - places + 7)
    net.register_buffer("mask", torch.zeros(2, 8, 8).index_fill(2, torch.tensor([7]), -5.0))
    return net


def width_of_tokens(a, x):
    """DeiT's: the width of a head is computed from that of the tokens."""
    count, tokens, width = x.shape
    qkv = a.qkv(x).reshape(count, tokens, 3, a.num_heads, width // a.num_heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    x = F.scaled_dot_product_attention(q, k, v)
    return x.transpose(1, 2).reshape(count, tokens, width)


def averaged_over_heads(a, x):
    """The heads read each other's scores."""
    q, k, v = a.qkv(x).unflatten(-1, (3, -1, a.head_dim)).permute(2, 0, 3, 1, 4).unbind(0)
    scores = (q @ k.transpose(-2, -1)).softmax(-1)
    return ((scores + scores.mean(1, keepdim=True)) @ v).transpose(1, 2).flatten(2)


def number_used_twice(a, x):
    return timm_style(a, x) * a.num_heads


def over_channels(a, x):
    """Attention between channels, as XCiT's."""
    q, k, v = a.qkv(x).unflatten(-1, (3, -1, a.head_dim)).permute(2, 0, 3, 4, 1).unbind(0)
    x = (q @ k.transpose(-2, -1)).softmax(-1) @ v
    return x.permute(0, 3, 1, 2).flatten(2)


CUTTABLE = {
    "timm": lambda: Fused(timm_style),
    "by hand": lambda: Fused(by_hand),
    "heads first": lambda: Fused(heads_first),
    "norms of heads": lambda: Fused(normed, norm=nn.LayerNorm(HEAD_DIM)),
    "between channels": lambda: Fused(over_channels),
    "BERT": lambda: Separate(bert_style),
    "Swin": lambda: with_table(biased),
    "a bias for each head, fused": lambda: with_table(biased_and_fused),
    "nn.MultiheadAttention": lambda: Multihead(batch_first=True),
    "nn.MultiheadAttention, no weights": lambda: Multihead(
        {"need_weights": False}, batch_first=True, bias=False
    ),
    "nn.MultiheadAttention, tokens first": lambda: nn.Sequential(Swapped(), Multihead(), Swapped()),
}
PINNED = {  # each with the other groups
    "the width of tokens": (lambda: Fused(width_of_tokens), ["fc1"]),
    "an average over heads": (lambda: Fused(averaged_over_heads), ["patch", "fc1"]),
    "a number that is used twice": (lambda: Fused(number_used_twice), ["patch", "fc1"]),
    "biases that are no parameter": (lambda: with_table(biased, nn.Buffer), ["patch", "fc1"]),
}


class Swapped(nn.Module):
    """Exchanges images and tokens."""

    def forward(self, x):
        return x.transpose(0, 1)


def transformer(attention):
    """Return a network with attention and weights of a fixed seed, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Tokens(attention())
        for parameter in net.parameters():
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, 0.5, 0.2)
    return net.eval().requires_grad_(False)


class WindowAttention(nn.Module):
    """Attention in shifted windows of maps (N, H, W, C), in the form of torchvision's Swin."""

    def __init__(self, window, shift, numbers=1.0):
        super().__init__()
        self.window_size, self.shift_size, self.num_heads = [window] * 2, [shift] * 2, HEADS
        self.attention_dropout = self.dropout = 0.0
        self.qkv, self.proj, self.numbers = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM), numbers
        side = 2 * window - 1
        table = torch.linspace(-9, 9, side**2 * HEADS).view(side**2, HEADS).sin()
        self.relative_position_bias_table = nn.Parameter(table)
        at = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        apart = at[:, None] - at + window - 1
        index = (apart[..., 0] * side + apart[..., 1]).flatten()
        self.register_buffer("relative_position_index", index)

    def forward(self, x):
        count, height, width, channels = x.shape
        window, tokens = self.window_size[0], self.window_size[0] ** 2
        x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        rows, columns = x.shape[1] // window, x.shape[2] // window
        shifts = [
            0 if window >= n else s for n, s in zip(x.shape[1:3], self.shift_size, strict=True)
        ]
        x = x.roll([-s for s in shifts], (1, 2))
        x = x.view(count, rows, window, columns, window, channels).transpose(2, 3)
        x = F.linear(x.reshape(-1, tokens, channels), self.qkv.weight, self.qkv_bias())
        x = x.reshape(-1, tokens, 3, self.num_heads, channels // self.num_heads)
        q, k, v = x.permute(2, 0, 3, 1, 4)
        scores = self.scores(q, k, channels // self.num_heads) * self.numbers
        scores = scores + self.bias(tokens)
        part = torch.zeros(rows * window, columns * window)
        for dim, (shift, size) in enumerate(zip(shifts, part.shape, strict=True)):
            if shift:
                part.narrow(dim, size - window, window).add_(3**dim)
                part.narrow(dim, size - shift, shift).add_(3**dim)
        part = part.view(rows, window, columns, window).transpose(1, 2).reshape(-1, 1, tokens)
        mask = (part != part.mT).float() * -100
        scores = scores.unflatten(0, (count, -1)) + mask[:, None]
        x = (scores.flatten(0, 1).softmax(-1) @ v).transpose(1, 2).reshape(-1, tokens, channels)
        x = F.linear(x, self.proj.weight, self.proj.bias)
        x = x.view(count, rows, columns, window, window, channels).transpose(2, 3)
        x = x.reshape(count, rows * window, columns * window, channels)
        return x.roll(shifts, (1, 2))[:, :height, :width]

    def qkv_bias(self):
        return self.qkv.bias

    def scores(self, q, k, width):
        return q @ k.mT * width**-0.5

    def bias(self, tokens):
        bias = self.relative_position_bias_table[self.relative_position_index]
        return bias.view(tokens, tokens, -1).permute(2, 0, 1)


class CosineWindowAttention(WindowAttention):
    """Attention by cosines, with a bias that an MLP computes, in the form of Swin V2."""

    def __init__(self, window, shift, numbers=1.0):
        super().__init__(window, shift, numbers)
        del self.relative_position_bias_table
        self.logit_scale = nn.Parameter(torch.linspace(1, 6, HEADS)[:, None, None])
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, 10), nn.ReLU(inplace=True), nn.Linear(10, HEADS, bias=False)
        )
        side = torch.arange(1.0 - window, window) / window * 3
        places = torch.cartesian_prod(side, side).view(1, len(side), len(side), 2)
        self.register_buffer("relative_coords_table", places)

    def qkv_bias(self):
        bias = self.qkv.bias.clone()
        bias[DIM : 2 * DIM].zero_()  # of the keys
        return bias

    def scores(self, q, k, width):
        scale = torch.clamp(self.logit_scale, max=math.log(100)).exp()
        return F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * scale

    def bias(self, tokens):
        bias = self.cpb_mlp(self.relative_coords_table).view(-1, self.num_heads)
        bias = bias[self.relative_position_index].view(tokens, tokens, -1).permute(2, 0, 1)
        return 16 * torch.sigmoid(bias)


class Windows(nn.Module):
    """Attention in windows of the 4x4 tokens of images (3, 8, 8), and a classifier."""

    def __init__(self, *attention):
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, DIM, 2, 2), nn.LayerNorm(DIM)
        self.attn, self.head = nn.ModuleList(attention), nn.Linear(DIM, 4)

    def forward(self, x):
        x = self.patch(x).permute(0, 2, 3, 1)
        for each in self.attn:
            x = x + each(self.norm(x))
        return self.head(x.mean((1, 2)))


class TextClassifier(nn.Module):
    """An encoder of token ids (N, L) with position embeddings; id 0 fills up short texts."""

    def __init__(self, vocabulary=20, length=6, classes=3):
        super().__init__()
        self.words = nn.Embedding(vocabulary, DIM, padding_idx=0)
        self.places = nn.Embedding(length, DIM)
        layer = nn.TransformerEncoderLayer(DIM, HEADS, 24, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(DIM, classes)

    def forward(self, ids):
        empty = ids == 0
        x = self.words(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        x = self.encoder(x, src_key_padding_mask=empty)
        kept = (~empty).unsqueeze(-1).to(x.dtype)
        return self.head((x * kept).sum(1) / kept.sum(1).clamp_min(1))
