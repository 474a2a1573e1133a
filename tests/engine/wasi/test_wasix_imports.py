"""Each function of WASIX is there with exactly its type, or a module is refused with the reason."""

from __future__ import annotations

import pytest

import journal
from journal.engine import Configuration, UnknownImports
from journal.engine.program.module import GuestModule, check_imports
from journal.engine.wasi.functions import IMPORTS
from journal.engine.wasi.functions.unsupported import REASONS, find_reason
from tests.support.wat import module

SIGNATURES = {
    # The clock, descriptors, the terminal, and the current directory.
    "clock_time_set": "il>i",
    "fd_dup": "ii>i",
    "fd_dup2": "iiii>i",
    "fd_event": "lii>i",
    "fd_pipe": "ii>i",
    "fd_fdflags_get": "ii>i",
    "fd_fdflags_set": "ii>i",
    "path_open2": "iiiiilliii>i",
    "tty_get": "i>i",
    "tty_set": "i>i",
    "getcwd": "ii>i",
    "chdir": "ii>i",
    # Threads, futexes and stacks.
    "thread_spawn_v2": "ii>i",
    "thread_spawn": "ii>i",
    "thread_sleep": "l>i",
    "thread_id": "i>i",
    "thread_join": "i>i",
    "thread_parallelism": "i>i",
    "thread_signal": "ii>i",
    "thread_exit": "i>",
    "futex_wait": "iiii>i",
    "futex_wake": "ii>i",
    "futex_wake_all": "ii>i",
    "stack_checkpoint": "ii>i",
    "stack_restore": "il>",
    "sched_yield": ">i",
    "context_create": "ii>i",
    "context_switch": "l>i",
    "context_destroy": "l>i",
    # Signals and processes.
    "callback_signal": "ii>",
    "proc_raise": "i>i",
    "proc_raise_interval": "ili>i",
    "proc_signal": "ii>i",
    "proc_signals_sizes_get": "i>i",
    "proc_signals_get": "i>i",
    "proc_id": "i>i",
    "proc_parent": "ii>i",
    "proc_fork": "ii>i",
    "proc_fork_env": "i>i",
    "proc_exec": "iiii>",
    "proc_exec2": "iiiiii>",
    "proc_exec3": "iiiiiiiii>i",
    "proc_exec4": "iiiiiiiii>i",
    "proc_spawn": "i" * 13 + ">i",
    "proc_spawn2": "i" * 14 + ">i",
    "proc_spawn3": "i" * 14 + ">i",
    "proc_join": "iii>i",
    "proc_exit2": "i>",
    "proc_snapshot": ">i",
    # Sockets and ports.
    "sock_open": "iiii>i",
    "sock_pair": "iiiii>i",
    "sock_bind": "ii>i",
    "sock_connect": "ii>i",
    "sock_listen": "ii>i",
    "sock_accept": "iiii>i",
    "sock_accept_v2": "iiii>i",
    "sock_addr_local": "ii>i",
    "sock_addr_peer": "ii>i",
    "sock_status": "ii>i",
    "sock_recv": "iiiiii>i",
    "sock_send": "iiiii>i",
    "sock_recv_from": "iiiiiii>i",
    "sock_send_to": "iiiiii>i",
    "sock_send_file": "iilli>i",
    "sock_shutdown": "ii>i",
    "sock_set_opt_flag": "iii>i",
    "sock_get_opt_flag": "iii>i",
    "sock_set_opt_size": "iil>i",
    "sock_get_opt_size": "iii>i",
    "sock_set_opt_time": "iii>i",
    "sock_get_opt_time": "iii>i",
    "sock_join_multicast_v4": "iii>i",
    "sock_leave_multicast_v4": "iii>i",
    "sock_join_multicast_v6": "iii>i",
    "sock_leave_multicast_v6": "iii>i",
    "resolve": "iiiiii>i",
    "epoll_create": "i>i",
    "epoll_ctl": "iiii>i",
    "epoll_wait": "iiili>i",
    "port_bridge": "iiiii>i",
    "port_unbridge": ">i",
    "port_dhcp_acquire": ">i",
    "port_addr_clear": ">i",
    "port_route_clear": ">i",
    "port_addr_add": "i>i",
    "port_addr_remove": "i>i",
    "port_gateway_set": "i>i",
    "port_route_remove": "i>i",
    "port_mac": "i>i",
    "port_addr_list": "ii>i",
    "port_route_list": "ii>i",
    "port_route_add": "iiii>i",
    # Linking and dynamic calls.
    "dlopen": "iiiiiiii>i",
    "dlsym": "iiiiii>i",
    "dl_invalid_handle": "i>i",
    "call_dynamic": "iiiiii>i",
    "closure_prepare": "iiiiiii>i",
    "closure_allocate": "i>i",
    "closure_free": "i>i",
    "reflect_signature": "iiiiii>i",
}
"""Functions of ``wasix_32v1``: parameters and results, i for i32 and l for i64."""

OTHER_NAMES = (
    *("proc_raise_interval2", "proc_vfork", "sock_recv_msg", "fd_read_poll", "callback_wake"),
    *("continuation_switch", "context_new", "bus_open", "http_request", "ws_connect"),
    *("thread_local_create", "callback_thread", "callback_reactor"),
)
"""Names that only some versions have, or had."""

TYPES = {"i": "i32", "l": "i64"}


def write_import(namespace: str, name: str, signature: str) -> str:
    parameters, _, result = signature.partition(">")
    types = " ".join(TYPES[letter] for letter in parameters)
    results = f"(result {TYPES[result]})" if result else ""
    return f'(import "{namespace}" "{name}" (func (param {types}) {results}))'


def refusal(*imports: str, unknown: UnknownImports = UnknownImports.REFUSE) -> str:
    """Return why a module with these imports is refused; empty if it is not."""
    data = module(f"(module {' '.join(imports)})")
    try:
        check_imports(GuestModule(data), Configuration(unknown_imports=unknown))
    except journal.ModuleRefused as error:
        return str(error)
    return ""


def test_each_function_of_wasix_is_supported_or_refused_with_its_reason() -> None:
    assert len(SIGNATURES) == 91 + 9
    supported = IMPORTS["wasix_32v1"]
    for name, signature in SIGNATURES.items():
        text = write_import("wasix_32v1", name, signature)
        if name in REASONS:
            assert name not in supported
            assert f"wasix_32v1.{name} ({REASONS[name]}); it can run until" in refusal(text)
        else:
            assert refusal(text) == ""
    wasix = set(supported) - set(IMPORTS["wasi_snapshot_preview1"])
    assert wasix <= SIGNATURES.keys(), "no function is invented"
    assert REASONS.keys() <= {*SIGNATURES, *OTHER_NAMES}


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_name_of_another_version_is_refused_with_the_reason(name: str) -> None:
    assert find_reason("wasix_32v1", name)
    text = refusal(write_import("wasix_32v1", name, "i>i"))
    assert f"wasix_32v1.{name} ({find_reason('wasix_32v1', name)})" in text


@pytest.mark.parametrize(
    ("namespace", "name", "reason"),
    [
        ("wasi", "thread-spawn", "threads are not supported yet"),
        ("wasix_64v1", "fd_write", "64-bit memories"),
        ("wasix_32v1", "no_such_name", ""),
        ("wasi", "other", ""),
        ("env", "thread_spawn", ""),
    ],
)
def test_other_modules_are_refused_by_name(namespace: str, name: str, reason: str) -> None:
    text = refusal(write_import(namespace, name, "i>i"))
    assert f"{namespace}.{name}" in text
    assert reason in text
    assert ("(" in text) == bool(reason)


def test_names_with_one_reason_stand_together_and_many_are_cut() -> None:
    names = sorted(REASONS.keys() & SIGNATURES.keys())
    imports = [write_import("wasix_32v1", name, SIGNATURES[name]) for name in names]
    text = refusal(*imports, write_import("env", "evil", ">"))
    assert text.startswith("the module has unknown imports: wasix_32v1.call_dynamic, ")
    assert "wasix_32v1.closure_prepare (calls of functions of unknown types are not" in text
    assert "stacks), env.evil and 16 more; it can run until it calls one, with" in text


def test_unknown_imports_can_trap_as_before() -> None:
    names = sorted(REASONS.keys() & SIGNATURES.keys())
    imports = [write_import("wasix_32v1", name, SIGNATURES[name]) for name in names]
    assert refusal(*imports, unknown=UnknownImports.TRAP) == ""
