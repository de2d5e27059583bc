# The command of every rank; ranks differ by environment alone.
command=(
  python3 /opt/megatron-lm/pretrain_gpt.py

  # Model
  --num-layers 32  # decoder layers
  --hidden-size 4096  # width
  --ffn-hidden-size 14336  # width of the MLP; the default is 4h, or 8h/3 rounded with SwiGLU
  --num-attention-heads 32  # heads of queries
  --kv-channels 128  # width of a head, which need not be hidden / heads
  --group-query-attention  # without it --num-query-groups is ignored
  --num-query-groups 8  # heads of keys and values
  --swiglu  # gated MLP with SiLU
  --disable-bias-linear  # no biases in linear layers
  --normalization RMSNorm  # the default is LayerNorm
  --norm-epsilon 1e-05  # the model's own
  --untie-embeddings-and-output-weights  # tied is the default
  --init-method-std 0.02  # spread of the initial weights
  --hidden-dropout 0.0  # the default is 0.1
  --attention-dropout 0.0  # the default is 0.1

  # Positions
  --position-embedding-type rope  # the default is learned_absolute
  --seq-length 8192  # tokens of a sample
  --max-position-embeddings 8192  # at least the sequence; with learned positions it is a shape of the model
  --rotary-base 500000  # the default is 10000
  --use-rope-scaling  # Llama 3's stretched frequencies
  --rope-scaling-factor 8  # how far they are stretched; 8 for Llama 3.1, 32 for small Llama 3.2

  # Vocabulary
  --vocab-size 128256  # of the model; the tokenizer must not have more
  --make-vocab-size-divisible-by 128  # times tp: the embedding's rows, hence of checkpoints, depend on tp
  --padded-vocab-size 128256  # rows of the embedding; to 0.17 the NullTokenizer counts one token more

  # Parallel axes
  --tensor-model-parallel-size 1  # ranks that share every matrix
  --pipeline-model-parallel-size 1  # ranks that share the layers
  --context-parallel-size 2  # ranks that share a sequence
  --cp-comm-type p2p  # how keys and values move

  # Data parallelism
  --use-distributed-optimizer  # optimizer states are sharded over dp x cp (ZeRO 1)
  --overlap-grad-reduce  # gradients travel while the backward pass runs
  --overlap-param-gather  # weights are gathered while the forward pass runs; needs the line above

  # Precision
  --bf16  # weights, activations and sends in BF16; without it they are FP32
  --transformer-impl transformer_engine  # the layers of Transformer Engine; FP8 exists only there
  --attention-backend auto  # Transformer Engine chooses flash or fused attention by shape
  --cross-entropy-loss-fusion  # the loss in one kernel, without a second copy of the logits
  --cross-entropy-fusion-impl native  # te is refused from 0.18 on

  # Gradients
  --accumulate-allreduce-grads-in-fp32  # BF16 loses small gradients in long sums; Megatron turns it on with a line of log

  # Batch and steps
  --micro-batch-size 1  # samples of one pass
  --train-iters 14305115  # optimizer steps of the run
  --seed 1234  # of weights, dropout and data

  # Batch size
  --global-batch-size 128  # samples of a step; the default is one microbatch a replica

  # Optimizer
  --optimizer adam  # with decoupled weight decay: AdamW
  --lr 0.0003  # the highest rate
  --min-lr 3e-05  # the last rate
  --lr-warmup-init 0.0  # the first rate
  --lr-decay-style cosine  # shape after the warm-up
  --lr-warmup-iters 0  # steps until the highest rate
  --lr-decay-iters 14305115  # step with the last rate
  --adam-beta1 0.9  # of the first moment
  --adam-beta2 0.95  # of the second moment; the default is 0.999
  --adam-eps 1e-08  # in Adam's denominator
  --weight-decay 0.1  # the default is 0.01
  --clip-grad 1.0  # largest norm of the gradients

  # Data
  --data-path data/corpus  # weights and prefixes of .bin/.idx files
  --split 1,0,0  # training, evaluation, test; the default gives 3 % away
  --data-cache-path data/corpus.cache  # sample indices, built by rank 0: a file system that all hosts share

  # Reading
  --tokenizer-type NullTokenizer  # tokens come ready made; only their number is needed
  --num-workers 2  # processes that read ahead
  --no-create-attention-mask-in-dataloader  # causal attention needs no mask, and a mask is s x s bytes a sample

  # Evaluation
  --eval-interval 14305115  # has no default and is divided by at start
  --eval-iters 0  # global batches of an evaluation; the default is 100, 0 is none

  # Checkpoints
  --save checkpoints/llama-3.1-8b.h100-x8  # a file system that all hosts share
  --load checkpoints/llama-3.1-8b.h100-x8  # goes on from the newest one; starts anew where there is none
  --save-interval 250  # steps between checkpoints
  --ckpt-format torch_dist  # sharded, loads into another layout; FSDP has its own format
  --async-save  # training goes on while the checkpoint is written
  --use-persistent-ckpt-worker  # without it --async-save is switched off with a warning
  --dist-ckpt-optim-fully-reshardable  # the only form of optimizer states that another dp can load

  # Logs
  --log-interval 1  # steps between lines; the default is 100
  --log-throughput  # TFLOP/s of a GPU in each line
  --log-progress  # progress.txt beside the checkpoints: jobs, steps, tokens

  # Leaving and coming back
  --exit-signal-handler  # SIGTERM: save, then leave; what a scheduler sends before its limit
  --distributed-timeout-minutes 60  # the default, 10, ends runs that build an index or load from cold storage
  --rerun-mode validate_results  # a NaN is computed again: exit 16 means try other hardware, 17 a bad host
  --manual-gc  # ranks collect garbage at the same step instead of in turn
  --manual-gc-interval 100  # steps between collections

  # Flight recorder
  --flight-recorder-dump-path llama-3.1-8b.h100-x8.flight  # the last collectives of each rank, written when one times out
)
