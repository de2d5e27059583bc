"""Rules on the batch and the learning rate: microbatches are whole, and a warm-up ends."""

from collections.abc import Iterator, Mapping

from orchestrator.records.run import padded_vocab_size
from orchestrator.rules.change import Change, change, changes, divisors, multiples, nearby
from orchestrator.rules.rule import (
    PASS,
    Breach,
    Breaches,
    Rule,
    Severity,
    Subject,
    megatron_core,
    ours,
)

_BATCH = "training.global_batch_size"


def _batches(subject: Subject) -> Iterator[tuple[str, int]]:
    """Give each batch size of the run, with its key."""
    training = subject.run.training
    yield _BATCH, training.global_batch_size
    for i, phase in enumerate(training.batch_ramp[:-1]):  # the last has the size just given
        yield f"training.batch_ramp.{i}.global_batch_size", phase.global_batch_size


def _is_uneven(subject: Subject) -> bool:
    share = subject.layout.micro_batch_size * subject.layout.dp
    training = subject.run.training
    return training.global_batch_size % share != 0 or (
        bool(training.batch_ramp) and any(size % share for _, size in _batches(subject))
    )


def _microbatches(subject: Subject) -> Breaches:
    if not _is_uneven(subject):
        return PASS
    share = subject.layout.micro_batch_size * subject.layout.dp
    return tuple(_uneven(subject, key, batch) for key, batch in _batches(subject) if batch % share)


def _uneven(subject: Subject, key: str, batch: int) -> Breach:
    layout = subject.layout
    share = layout.micro_batch_size * layout.dp
    said = {"batch": batch, "micro": layout.micro_batch_size, "dp": layout.dp, "share": share}
    sizes = () if subject.run.training.batch_ramp else divisors(batch)
    micro = nearby(sizes, near=layout.micro_batch_size, fits=lambda d: batch % (d * layout.dp) == 0)
    passing = (
        *(_resized(subject, key, size) for size in multiples(batch, share)),
        *changes("layout.micro_batch_size", micro),
    )
    return Breach(key=key, said=said, passing=passing)


def _resized(subject: Subject, key: str, size: int) -> Change:
    """Return the change of a batch size; the last phase of a ramp has the run's own."""
    ramp = subject.run.training.batch_ramp
    if key != _BATCH or not ramp:
        return change(key, size)
    last = f"training.batch_ramp.{len(ramp) - 1}.global_batch_size"
    return Change(values=((key, size), (last, size)))


def _warmup(subject: Subject) -> Breaches:
    optimizer, steps = subject.run.training.optimizer, subject.run.steps
    warmup = optimizer.warmup_steps_of(steps)
    if warmup < steps:
        return PASS
    said = {"warmup": warmup, "steps": steps}
    return (_warmup_breach(subject, said=said, least=steps // 100),)


def _warmup_decay(subject: Subject) -> Breaches:
    optimizer, steps = subject.run.training.optimizer, subject.run.steps
    warmup, decay = optimizer.warmup_steps_of(steps), optimizer.decay_steps_of(steps)
    if optimizer.decay_steps is None or warmup < decay:
        return PASS
    said = {"warmup": warmup, "decay": decay}
    return (_warmup_breach(subject, said=said, least=decay // 100),)


def _warmup_breach(subject: Subject, *, said: Mapping[str, object], least: int) -> Breach:
    if subject.run.training.optimizer.warmup_fraction is not None:
        key = "training.optimizer.warmup_fraction"
        return Breach(key=key, said=said, passing=changes(key, (0.01,)))
    key = "training.optimizer.warmup_steps"
    return Breach(key=key, said=said, passing=changes(key, (least,)))


def _wsd_decay(subject: Subject) -> Breaches:
    optimizer, steps = subject.run.training.optimizer, subject.run.steps
    falling = optimizer.wsd_decay_steps
    if falling is None:
        return PASS
    room = optimizer.decay_steps_of(steps) - optimizer.warmup_steps_of(steps)
    if falling <= room or room < 1:
        return PASS  # without room, the rules on the warm-up speak
    key = "training.optimizer.wsd_decay_steps"
    passing = changes(key, sorted({max(1, room // 10), room}))
    return (Breach(key=key, said={"falling": falling, "room": room}, passing=passing),)


def _end_of_document(subject: Subject) -> Breaches:
    data, run = subject.run.spec.data, subject.run
    if data is None:
        return PASS
    rows = padded_vocab_size(run.model, run.training, tp=subject.layout.tp)
    if data.end_of_document < rows:
        return PASS
    said = {"token": data.end_of_document, "rows": rows, "model": run.model.name}
    passing = changes("data.end_of_document", (run.model.vocab_size - 1,))
    return (Breach(key="data.end_of_document", said=said, passing=passing),)


def _checkpoint_interval(subject: Subject) -> Breaches:
    checkpoint, steps = subject.run.spec.checkpoint, subject.run.steps
    if checkpoint is None or checkpoint.interval_steps <= steps:
        return PASS
    key = "checkpoint.interval_steps"
    said = {"interval": checkpoint.interval_steps, "steps": steps}
    return (Breach(key=key, said=said, passing=changes(key, (max(1, steps // 10), steps))),)


_SCHEDULER = "optimizer_param_scheduler.py"

RULES = (
    Rule(
        id="microbatches",
        condition="micro_batch_size x dp divides the global batch, in every phase of a ramp",
        message="{batch} is not a multiple of micro_batch_size {micro} x dp {dp} = {share}",
        source=megatron_core(
            "num_microbatches_calculator.py", 341, "is not divisible by micro batch size"
        ),
        since="0.9",
        check=_microbatches,
        is_broken=_is_uneven,
    ),
    Rule(
        id="warmup",
        condition="the learning rate's warm-up is shorter than the run",
        message="{warmup} is not below the {steps} steps of the run",
        source=ours("the learning rate would never be reached"),
        check=_warmup,
    ),
    Rule(
        id="warmup-decay",
        condition="the learning rate's warm-up is shorter than its decay",
        message="{warmup} is not below decay_steps {decay}",
        source=megatron_core(_SCHEDULER, 157, "self.lr_warmup_steps < self.lr_decay_steps"),
        since="0.9",
        check=_warmup_decay,
    ),
    Rule(
        id="wsd-decay",
        condition="warm-up, stable, decay: the falling part lies after the warm-up",
        message="{falling} is above the {room} steps between the warm-up and the decay's end",
        source=ours("the rate would fall before it has risen"),
        check=_wsd_decay,
    ),
    Rule(
        id="end-of-document",
        condition="the end-of-document token is in the padded vocabulary",
        message="{token} is not below the {rows} rows of the embedding of {model}",
        source=ours("an embedding has no row for it"),
        check=_end_of_document,
    ),
    Rule(
        id="checkpoint-interval",
        condition="a checkpoint is committed before the last step",
        message="{interval} is above the {steps} steps of the run: the only checkpoint is the last",
        source=ours("a failure would cost the whole run"),
        severity=Severity.WARNING,
        check=_checkpoint_interval,
    ),
)
