"""Functions of WASI and WASIX that this engine does not have, and why.

A module that imports one of them is refused with the reason. It can run until it calls the function
if the user lets unknown imports trap.
"""

_THREADS = "threads are not supported yet"
_STACKS = "a program cannot save and restore its own stack"
_CONTEXTS = "a program cannot switch between several stacks"
_LINKING = "dynamic linking is not supported: link the program statically"
_DYNAMIC_CALLS = "calls of functions of unknown types are not supported"
_BRANCH = "only some versions of WASIX have it"
_REMOVED = "WASIX has it no more"
_64_BIT = "WASIX with 64-bit memories is not supported: build the program for wasm32"

_MODULE_64 = "wasix_64v1"
_MODULE = "wasix_32v1"
_THREADS_MODULE = "wasi"

REASONS: dict[str, str] = {
    **dict.fromkeys(
        (
            *("futex_wait", "futex_wake", "futex_wake_all"),
            *("thread_exit", "thread_id", "thread_join", "thread_parallelism", "thread_sleep"),
            *("thread_spawn", "thread_spawn_v2"),
        ),
        _THREADS,
    ),
    **dict.fromkeys(("stack_checkpoint", "stack_restore"), _STACKS),
    **dict.fromkeys(
        ("context_create", "context_destroy", "context_new", "context_switch"), _CONTEXTS
    ),
    **dict.fromkeys(("dl_invalid_handle", "dlopen", "dlsym"), _LINKING),
    **dict.fromkeys(
        (
            *("call_dynamic", "closure_allocate", "closure_free", "closure_prepare"),
            "reflect_signature",
        ),
        _DYNAMIC_CALLS,
    ),
    **dict.fromkeys(
        (
            *("callback_wake", "continuation_switch", "proc_raise_interval2", "proc_vfork"),
            "sock_recv_msg",
        ),
        _BRANCH,
    ),
    **dict.fromkeys(("callback_reactor", "callback_thread"), _REMOVED),
}
"""Reasons by the names of the functions in ``wasix_32v1``."""

_REMOVED_PREFIXES = ("bus_", "http_", "ws_", "thread_local_")
_BRANCH_SUFFIX = "_poll"


def find_reason(module: str, name: str) -> str:
    """Return why this engine lacks a function of WASI or WASIX; empty for any other import."""
    if module == _MODULE_64:
        return _64_BIT
    if module == _THREADS_MODULE and name == "thread-spawn":
        return _THREADS
    if module != _MODULE:
        return ""
    if name in REASONS:
        return REASONS[name]
    if name.startswith(_REMOVED_PREFIXES):
        return _REMOVED
    return _BRANCH if name.endswith(_BRANCH_SUFFIX) else ""
