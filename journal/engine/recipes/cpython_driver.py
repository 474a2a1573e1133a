"""Program that CPython runs in a sandbox: it evaluates the code of each request, and replies.

``driver_protocol`` describes requests and replies. The program is text, because it runs inside the
guest and nowhere else.
"""

CPYTHON_DRIVER = r'''
import ast, gc, io, json, linecache, os, sys, traceback, types

READ_SIZE = 1 << 16


def serve():
    driver = sys.modules["__main__"]  # The reference keeps the functions of this program alive.
    scope = enter_main_module()
    to_json = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
    buffer = b""
    while True:
        while (end := buffer.find(b"\n")) < 0:
            data = os.read(0, READ_SIZE)
            if not data:
                return
            buffer += data
        nonce, seed, value_size_max, name, code = json.loads(buffer[:end])
        buffer = buffer[end + 1 :]
        if seed is not None and "random" in sys.modules:
            sys.modules["random"].seed(int(seed, 16))
        reply = answer(code, name, scope, to_json, value_size_max)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                pass  # The code replaced or closed the stream.
        write_all(f"\x1e{nonce} {reply}\n".encode())


def enter_main_module():
    """Return the namespace of a new main module, which has an empty standard input."""
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    sys.argv = [""]
    sys.stdin = io.StringIO()
    sys.path[:0] = ["", "/packages"]
    os.chdir("/work")
    return main.__dict__


def answer(code, name, scope, to_json, value_size_max):
    """Return the reply to a request, as JSON."""
    try:
        value = evaluate(code, name, scope)
        if value is None:
            return "{}"
        key, text = show(value, to_json)
        if len(text) > value_size_max:
            raise ValueError(
                f"the value has {len(text)} characters as JSON, and at most {value_size_max} are "
                "returned: write it to a file"
            )
        return f'{{"{key}":{text}}}'
    except BaseException as error:
        return f'{{"error":{json.dumps(describe(error)[-value_size_max // 3 :])}}}'


def evaluate(code, name, scope):
    """Run code, and return the value of its last statement if that is an expression."""
    linecache.cache[name] = (len(code), None, f"{code}\n".splitlines(True), name)
    if "\n" not in code:  # A syntax tree takes twice the time, and an expression needs none.
        try:
            compiled = compile(code, name, "eval")
        except SyntaxError:
            pass  # It is a statement, or wrong.
        else:
            return eval(compiled, scope)
    tree = compile(code, name, "exec", ast.PyCF_ONLY_AST)
    if not tree.body or not isinstance(tree.body[-1], ast.Expr):
        exec(compile(tree, name, "exec"), scope)
        return None
    last = ast.Expression(tree.body.pop().value)
    exec(compile(tree, name, "exec"), scope)
    return eval(compile(last, name, "eval"), scope)


def show(value, to_json):
    """Return the key of a value in the reply, and its text."""
    try:
        return "value", to_json(value)
    except Exception:
        pass  # JSON has no such value, or it is too deep.
    return "repr", json.dumps(repr(value))


def describe(error):
    """Return the traceback of an error without the frames of this program."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == "<string>":
        frames = frames.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, frames))
    except BaseException:
        return f"{type(error).__name__}\n"


def write_all(data):
    while data:
        data = data[os.write(1, data) :]


serve()
'''
"""The program, for ``python -c``."""
