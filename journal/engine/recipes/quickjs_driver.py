"""Program that QuickJS runs in a sandbox: it evaluates the code of each request, and replies.

``driver_protocol`` describes requests and replies. The program is text, because it runs inside the
guest and nowhere else.
"""

QUICKJS_DRIVER = r"""
import * as std from "qjs:std";
import * as os from "qjs:os";

// Replace the generator of Math.random by sfc32, because QuickJS seeds its own at the start alone.
function seedRandom(hex) {
  let [a, b, c, d] = [0, 8, 16, 24].map(at => parseInt(hex.slice(at, at + 8), 16) | 0);
  const next = () => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + t) | 0;
    return t >>> 0;
  };
  for (let round = 0; round < 12; round++) next();
  Math.random = () => ((next() >>> 5) * 67108864 + (next() >>> 6)) / 9007199254740992;
}

// Return the text of a value, and whether it is JSON.
function show(value) {
  const type = typeof value;
  if (type === "number" ? Number.isFinite(value) : type === "string" || type === "boolean")
    return ["value", JSON.stringify(value)];
  if (type === "object") {
    const kind = Object.getPrototypeOf(value);
    if (kind === Object.prototype || Array.isArray(value) || typeof value.toJSON === "function") {
      try {
        const text = JSON.stringify(value);
        if (text !== undefined) return ["value", text];
      } catch (error) {}  // A cycle, or a value inside that JSON does not have.
    }
  }
  return ["repr", JSON.stringify(type === "bigint" ? `${value}n` : String(value))];
}

async function answer(code, valueSizeMax) {
  try {
    const {value} = await std.evalScript(code, {async: true});
    if (value === undefined || value === null) return "{}";
    const [key, text] = show(value);
    if (text.length > valueSizeMax)
      throw new RangeError(
        `the value has ${text.length} characters as JSON, and at most ${valueSizeMax} are ` +
        "returned: write it to a file");
    return `{"${key}":${text}}`;
  } catch (error) {
    return `{"error":${JSON.stringify(describe(error).slice(0, valueSizeMax / 3))}}`;
  }
}

// Return an error with its stack, as far as the stack is not that of this program.
function describe(error) {
  try {
    if (!(error instanceof Error)) return `Uncaught ${String(error)}\n`;
    const frames = String(error.stack).split("\n");
    const end = frames.findIndex(frame => frame.includes("at evalScript (native)"));
    return [String(error), ...frames.slice(0, end < 0 ? frames.length - 1 : end), ""].join("\n");
  } catch (failure) {
    return "Uncaught value that has no text\n";
  }
}

os.chdir("/work");
for (let line; (line = std.in.getline()) !== null;) {
  const [nonce, seed, valueSizeMax, name, code] = JSON.parse(line);
  if (seed !== null) seedRandom(seed);
  const reply = await answer(code, valueSizeMax);
  std.err.flush();
  std.out.puts(`\x1e${nonce} ${reply}\n`);
  std.out.flush();
}
"""
"""The program, for ``qjs --std --module --eval``."""
