"""What stands for tensors, configuration and communication while Megatron's loops are recorded."""

from types import SimpleNamespace
from typing import Any


class Tag:
    """What stands for a tensor: `made` is what was computed, `read_by` what then read it."""

    requires_grad = True

    def __init__(self, *, chunk: int = 0, microbatch: int = 0) -> None:
        self.chunk, self.microbatch = chunk, microbatch
        self.is_named = False

    def named(self, *, chunk: int, microbatch: int) -> None:
        """Say what read a tensor that was received."""
        if not self.is_named:
            self.chunk, self.microbatch, self.is_named = chunk, microbatch, True

    def __getitem__(self, _: int) -> "Tag":
        return self


class Config:
    """A model config in which everything that is not said is off."""

    def __init__(self, **said: object) -> None:
        self.__dict__.update(
            hidden_size=1,
            sequence_parallel=False,
            variable_seq_lengths=False,
            deallocate_pipeline_outputs=False,
            fine_grained_activation_offloading=False,
            cuda_graph_impl="none",
            **said,
        )

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class Transfer:
    """One tensor sent or received."""

    def __init__(self, what: str, tag: Tag) -> None:
        self.what, self.tag = what, tag


class Communicator:
    """A communicator that notes what is sent and makes up what is received."""

    def __init__(self, *, pp: int, rank: int, config: Config, log: list[Any]) -> None:
        self.pp_group = SimpleNamespace(size=lambda: pp, rank=lambda: rank)
        self.config, self.log = config, log
        self.virtual_pipeline_model_parallel_size = config.virtual_pipeline_model_parallel_size
        self.is_pp_first_stage, self.is_pp_last_stage = rank == 0, rank == pp - 1
        self.total_stages, self.current_stage = pp, rank

    def call(self, *transfers: Transfer | None) -> None:
        """Note the transfers of one call."""
        real = [transfer for transfer in transfers if transfer is not None]
        if real:
            self.log.append(real)

    # From here on: Megatron's own names and arguments.

    def recv_forward(self, _shapes: object, is_first_stage: bool) -> Tag | None:
        """Receive an activation."""
        return self._received("RECV_F", wanted=not is_first_stage)

    def recv_backward(self, _shapes: object, is_last_stage: bool) -> Tag | None:
        """Receive a gradient."""
        return self._received("RECV_B", wanted=not is_last_stage)

    def send_forward(self, tensor: object, is_last_stage: bool) -> None:
        """Send an activation."""
        self.call(_sent("SEND_F", None if is_last_stage else tensor))

    def send_backward(self, tensor: object, is_first_stage: bool) -> None:
        """Send a gradient."""
        self.call(_sent("SEND_B", None if is_first_stage else tensor))

    def send_forward_recv_backward(
        self, tensor: object, _shapes: object, is_last_stage: bool
    ) -> Tag | None:
        """Send an activation and receive a gradient."""
        if is_last_stage:
            return None
        return self._both("SEND_F", tensor, "RECV_B")

    def send_backward_recv_forward(
        self, tensor: object, _shapes: object, is_first_stage: bool
    ) -> Tag | None:
        """Send a gradient and receive an activation."""
        if is_first_stage:
            return None
        return self._both("SEND_B", tensor, "RECV_F")

    def send_forward_recv_forward(
        self,
        output_tensor: object,
        *,
        recv_prev: bool,
        overlap_p2p_comm: bool = False,
        **_: object,
    ) -> object:
        """Pass activations on; overlapped calls answer with handles to wait on."""
        received = Tag() if recv_prev else None
        self.call(_sent("SEND_F", output_tensor), _sent("RECV_F", received))
        handles = {"send_next": output_tensor is not None, "recv_prev": recv_prev}
        return (received, _handles(handles)) if overlap_p2p_comm else received

    def send_backward_recv_backward(
        self,
        input_tensor_grad: object,
        *,
        recv_next: bool,
        overlap_p2p_comm: bool = False,
        **_: object,
    ) -> object:
        """Pass gradients on; overlapped calls answer with handles to wait on."""
        received = Tag() if recv_next else None
        self.call(_sent("SEND_B", input_tensor_grad), _sent("RECV_B", received))
        handles = {"send_prev": input_tensor_grad is not None, "recv_next": recv_next}
        return (received, _handles(handles)) if overlap_p2p_comm else received

    def send_forward_backward_recv_forward_backward(
        self, output: object, grad: object, *, recv_prev: bool, recv_next: bool, **_: object
    ) -> tuple[Tag | None, Tag | None]:
        """Pass on both, in one call."""
        activation, gradient = Tag() if recv_prev else None, Tag() if recv_next else None
        self.call(
            _sent("SEND_F", output),
            _sent("SEND_B", grad),
            _sent("RECV_F", activation),
            _sent("RECV_B", gradient),
        )
        return activation, gradient

    def _received(self, what: str, *, wanted: bool) -> Tag | None:
        if not wanted:
            return None
        tag = Tag()
        self.call(Transfer(what, tag))
        return tag

    def _both(self, send: str, tensor: object, receive: str) -> Tag:
        tag = Tag()
        self.call(_sent(send, tensor), Transfer(receive, tag))
        return tag


def tag_of(tensor: object) -> Tag | None:
    """Return the tag of what Megatron passes around: a tag or a list that holds one."""
    if isinstance(tensor, list):
        return tag_of(tensor[0]) if tensor else None
    return tensor if isinstance(tensor, Tag) else None


def _sent(what: str, tensor: object) -> Transfer | None:
    tag = tag_of(tensor)
    return None if tag is None else Transfer(what, tag)


def _handles(wanted: dict[str, bool]) -> dict[str, SimpleNamespace]:
    return {
        name: SimpleNamespace(wait=lambda: None) for name, is_wanted in wanted.items() if is_wanted
    }
