"""frfeat: the MobileFaceNet of npm's `faceplugin-face-recognition-js`, 112×112, 512-d (ONNX).

The file holds folded convolutions under running numbers: the k-th has its kernel in `519 + 3k` and
its bias in `520 + 3k`, and the slopes of the j-th PReLU lie in `668 + j`.
"""

from flax import nnx

from ports.convert import CONV, DEPTHWISE, PER_CHANNEL, Rule
from ports.layers import without_batch_norm
from ports.networks.mobilefacenet import STAGES, MobileFaceNet

FIRST_KERNEL, FIRST_SLOPE = 519, 668


def frfeat(*, rngs: nnx.Rngs) -> nnx.Module:
    """[B,112,112,3] normalised RGB pixels -> [B,512] embeddings, not normalised."""
    return without_batch_norm(MobileFaceNet(rngs=rngs))


def _table() -> tuple[Rule, ...]:
    blocks = [f"blocks.{n}" for n in range(sum(repeats for _, _, repeats, _ in STAGES))]
    convolutions = ["conv1", "dw_conv1"]
    slopes = ["prelu1", "dw_prelu1"]
    for block in blocks:
        convolutions += [f"{block}.expand", f"{block}.depthwise", f"{block}.project"]
        slopes += [f"{block}.expand_prelu", f"{block}.depthwise_prelu"]
    convolutions += ["conv2", "linear7", "linear1"]
    slopes += ["prelu2"]
    rules = []
    for k, path in enumerate(convolutions):
        depthwise = path.rsplit(".", 1)[-1] in ("dw_conv1", "depthwise", "linear7")
        layout = DEPTHWISE if depthwise else CONV
        rules.append(Rule(str(FIRST_KERNEL + 3 * k), f"{path}.layer.kernel", layout))
        rules.append(Rule(str(FIRST_KERNEL + 3 * k + 1), f"{path}.layer.bias"))
    for j, path in enumerate(slopes):
        rules.append(Rule(str(FIRST_SLOPE + j), f"{path}.slope", PER_CHANNEL))
    return tuple(rules)


TABLE = _table()
IGNORED = ("703",)  # the shape of the last reshape
