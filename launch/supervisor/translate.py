"""What an agent says, as the event it is; None where nothing is to be decided."""

from launch.rank_lines import (
    CheckpointLine,
    EvaluationLine,
    FinishedLine,
    LeftLine,
    PhaseLine,
    RefusedLine,
    StepLine,
)
from launch.supervisor.events import (
    Event,
    InstructionRefused,
    PortGranted,
    RankExited,
    RankFinished,
    RankLeft,
    RankRefused,
    RankStaged,
    RankStarted,
)
from launch.wire import (
    Beat,
    Exited,
    Hello,
    InstructionFailed,
    LogPiece,
    PortReserved,
    RankLine,
    Started,
    ToController,
)


def event_of(record: ToController, *, agent_id: int, at_s: float) -> Event | None:
    """The event that a record of an agent is."""
    match record:
        case PortReserved():
            return PortGranted(at_s=at_s, generation=record.generation, port=record.port)
        case Started():
            return RankStarted(
                at_s=at_s,
                generation=record.generation,
                rank=record.rank,
                pid=record.pid,
                fork_s=record.fork_s,
                cold=record.cold,
            )
        case RankLine():
            return _event_of_line(record, at_s=at_s)
        case Exited():
            return RankExited(
                at_s=at_s,
                generation=record.generation,
                rank=record.rank,
                exit_code=record.exit_code,
                signal=record.signal,
                tail=record.tail,
            )
        case InstructionFailed():
            return InstructionRefused(
                at_s=at_s, generation=record.generation, agent_id=agent_id, reason=record.reason
            )
        case Hello() | Beat() | LogPiece():
            return None


def _event_of_line(line: RankLine, *, at_s: float) -> Event | None:
    generation, rank = line.generation, line.rank
    match line.record:
        case CheckpointLine(step=step, files=files):
            return RankStaged(at_s=at_s, generation=generation, rank=rank, step=step, files=files)
        case FinishedLine(step=step):
            return RankFinished(at_s=at_s, generation=generation, rank=rank, step=step)
        case LeftLine(step=step):
            return RankLeft(at_s=at_s, generation=generation, rank=rank, step=step)
        case RefusedLine(reason=reason):
            return RankRefused(at_s=at_s, generation=generation, rank=rank, reason=reason)
        case PhaseLine() | StepLine() | EvaluationLine():
            return None
