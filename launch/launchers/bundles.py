"""The bundle's files, put into the run directory."""

from launch.agent.archive import build_zipapp
from launch.request import LaunchRequest
from launch.run_directory import RunDirectory
from orchestrator.errors import StorageError


def place_bundle(request: LaunchRequest, directory: RunDirectory) -> None:
    """Write what hosts need into the bundle folder.

    Raises:
        StorageError: the storage does not take it.
    """
    try:
        for file in request.files:
            path = directory.bundle / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text)
        build_zipapp(directory.agent_archive)
    except OSError as error:
        problem = error.strerror or str(error)
        raise StorageError(path=str(directory.bundle), problem=problem) from None
