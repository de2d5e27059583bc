"""What `pretrain_gpt.py` is told of experts and of latent attention."""

from orchestrator.engines.megatron_lm.model_rows import layer_list
from orchestrator.engines.megatron_lm.row import Job, Row, Section, Value
from orchestrator.specs.choices import Precision


def _pre_softmax(job: Job) -> bool:
    # With one expert a softmax over the chosen ones is always 1: nothing would be learned. A
    # scaling factor is for weights that do not sum to 1 (DeepSeek-V2), hence chosen after it.
    alone = job.moe.router_topk == 1 or job.moe.topk_scaling_factor is not None
    return job.moe.score_function == "softmax" and alone


def _shared(job: Job) -> Value:
    return job.moe.shared_expert_intermediate_size or None


EXPERTS = Section(
    title="Experts",
    applies=lambda j: j.model.moe is not None,
    rows=(
        Row(flag="--num-experts", value=lambda j: j.moe.num_experts, why="routed experts"),
        Row(
            flag="--moe-ffn-hidden-size",
            value=lambda j: j.moe.moe_ffn_hidden_size,
            why="width of one expert",
        ),
        Row(
            flag="--moe-layer-freq",
            value=lambda j: layer_list(j, j.moe.is_moe_layer),
            why="1 marks the layers with experts",
        ),
        Row(flag="--moe-router-topk", value=lambda j: j.moe.router_topk, why="experts of a token"),
        Row(
            flag="--moe-router-score-function",
            value=lambda j: j.moe.score_function,
            why="how scores become weights",
        ),
        Row(
            flag="--moe-router-pre-softmax",
            value=_pre_softmax,
            why="weights are taken over all experts, not over the chosen",
        ),
        Row(
            flag="--moe-router-load-balancing-type",
            value=lambda j: j.moe.load_balancing,
            why="what keeps experts equally busy",
        ),
        Row(
            flag="--moe-aux-loss-coeff",
            value=lambda j: j.moe.aux_loss_coeff if j.moe.load_balancing != "none" else None,
            why="weight of the balancing loss; the default is 0",
        ),
        Row(
            flag="--moe-router-enable-expert-bias",
            value=lambda j: j.moe.expert_bias,
            why="routing corrected by a bias without gradient",
        ),
        Row(
            flag="--moe-router-bias-update-rate",
            value=lambda j: j.moe.expert_bias_update_rate,
            why="step of that bias",
        ),
        Row(
            flag="--moe-router-num-groups",
            value=lambda j: j.moe.num_groups,
            why="experts are chosen within groups",
        ),
        Row(flag="--moe-router-group-topk", value=lambda j: j.moe.group_topk, why="groups a token"),
        Row(
            flag="--moe-router-topk-scaling-factor",
            value=lambda j: j.moe.topk_scaling_factor,
            why="factor on the chosen weights",
        ),
        Row(
            flag="--moe-router-dtype",
            value=lambda j: "fp32" if j.moe.router_dtype == "fp32" else None,
            why="routing in BF16 changes choices from run to run",
        ),
        Row(
            flag="--moe-apply-probs-on-input",
            value=lambda j: j.moe.apply_probs_on_input,
            why="the weight multiplies an expert's input",
        ),
        Row(
            flag="--moe-shared-expert-intermediate-size",
            value=_shared,
            why="width of all shared experts together",
        ),
        Row(flag="--moe-grouped-gemm", value=lambda _: True, why="one launch for all experts"),
        Row(
            flag="--moe-token-dispatcher-type",
            value=lambda _: "alltoall",
            why="the default, allgather, sends every token to every rank",
        ),
        Row(
            flag="--moe-permute-fusion",
            value=lambda _: True,
            why="tokens are reordered in one kernel",
        ),
        Row(
            flag="--moe-router-padding-for-quantization",
            value=lambda j: j.training.precision is Precision.FP8,
            why="FP8 products need rows in multiples of 16",
        ),
        Row(
            flag="--expert-model-parallel-size",
            value=lambda j: j.layout.ep,
            why="ranks that share the experts of a layer",
        ),
        Row(
            flag="--expert-tensor-parallel-size",
            value=lambda j: j.layout.etp,
            why="the default is tp, which rarely fits",
        ),
    ),
)


def _latent(name: str) -> Row:
    spellings = {
        "q_lora_rank": ("--q-lora-rank", "latent of queries"),
        "kv_lora_rank": ("--kv-lora-rank", "latent of keys and values; the default is 32"),
        "qk_nope_head_dim": ("--qk-head-dim", "width of a head without positions"),
        "qk_rope_head_dim": ("--qk-pos-emb-head-dim", "rotated width of a head"),
        "v_head_dim": ("--v-head-dim", "width of a value"),
    }
    flag, why = spellings[name]
    return Row(flag=flag, value=lambda j: getattr(j.model.mla, name), why=why)


LATENT_ATTENTION = Section(
    title="Multi-latent attention",
    applies=lambda j: j.model.mla is not None,
    rows=(
        Row(flag="--multi-latent-attention", value=lambda _: True, why="compressed keys, values"),
        _latent("q_lora_rank"),
        _latent("kv_lora_rank"),
        _latent("qk_nope_head_dim"),
        _latent("qk_rope_head_dim"),
        _latent("v_head_dim"),
    ),
)
