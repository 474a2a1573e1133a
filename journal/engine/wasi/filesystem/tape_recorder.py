"""Effects of file operations as events on the tape."""

from journal.engine.tape import Tape
from journal.events import codec, descriptors, paths
from journal.events.definition import Event
from journal.vfs.open_request import OpenRequest

# Encoders of the payloads of effects; arguments in wire order.
pack_open = codec.make_packer(descriptors.OpenFileDescriptor)
_pack_open_with_flags = codec.make_packer(descriptors.OpenFileDescriptorWithFlags)
pack_write = codec.make_packer(descriptors.FileDescriptorWrite)
pack_set_size = codec.make_packer(descriptors.FileDescriptorSetSize)
pack_set_times = codec.make_packer(descriptors.FileDescriptorSetTimes)
pack_create_directory = codec.make_packer(paths.CreateDirectory)
pack_remove_directory = codec.make_packer(paths.RemoveDirectory)
pack_unlink = codec.make_packer(paths.UnlinkFile)
pack_rename = codec.make_packer(paths.PathRename)
pack_link = codec.make_packer(paths.CreateHardLink)
pack_symlink = codec.make_packer(paths.CreateSymbolicLink)
pack_path_times = codec.make_packer(paths.PathSetTimes)

_PACKERS = {
    descriptors.OpenFileDescriptor: pack_open,
    descriptors.OpenFileDescriptorWithFlags: _pack_open_with_flags,
    descriptors.FileDescriptorSetSize: pack_set_size,
    descriptors.FileDescriptorSetTimes: pack_set_times,
    paths.CreateDirectory: pack_create_directory,
    paths.RemoveDirectory: pack_remove_directory,
    paths.UnlinkFile: pack_unlink,
    paths.PathRename: pack_rename,
    paths.CreateHardLink: pack_link,
    paths.CreateSymbolicLink: pack_symlink,
    paths.PathSetTimes: pack_path_times,
}


def pack_opening(request: OpenRequest) -> bytes:
    """Return the payload of the event of a request to open a path."""
    return _PACKERS[request.kind](*request.event_values)


_WRITE = descriptors.FileDescriptorWrite.tag
_MICROSECOND = 1000


class TapeRecorder:
    """Recorder that appends effects to the tape, which compares them with the journal in a replay.

    So the times of a file are those of the events that changed it, in every replay.
    """

    __slots__ = ("_tape",)

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    @property
    def seq(self) -> int:
        """Sequence number of the latest effect."""
        return self._tape.last_effect_seq

    def record(self, kind: type[Event], *values: object) -> int:
        """Record an effect, and return its time in nanoseconds since the epoch."""
        payload = _PACKERS[kind](*values)
        return self._tape.record_effect(kind.tag, payload) * _MICROSECOND

    def record_write(self, fd: int, offset: int, data: bytes) -> int:
        """Record a write, and return its time in nanoseconds since the epoch."""
        payload = pack_write(fd, offset, False, data)
        return self._tape.record_effect(_WRITE, payload) * 1000
