// A bakery's day, told by a program that has all a program can lose: variables, files half done,
// random numbers, the time. It draws a ticket at the start and shows it at the end: a program
// that had been started again would show another one. All else that it prints depends on its
// orders alone, which come from standard input.
//
// Its books are in memory (/book), its shop window is a directory of the host (/window).

const DIGITS = 8;
let ticket = "";
while (ticket.length < DIGITS) ticket += Math.floor(Math.random() * 16).toString(16);

const noise = [];          // what chance and the clock said: kept here and in a file
let sum = 2166136261;      // of all that was done, so that nothing can be left out or done twice
let clock = 0;

function fail(what) {
    print("THIS MUST NOT BE: " + what);
    std.exit(1);
}

function mix(text) {
    for (let i = 0; i < text.length; i++)
        sum = Math.imul(sum ^ text.charCodeAt(i), 16777619) >>> 0;
    return sum.toString(16).padStart(8, "0");
}

function put(path, mode, text) {
    const file = std.open(path, mode);
    if (!file) fail("cannot open " + path);
    file.puts(text);
    file.close();
}

function get(path) {
    const text = std.loadFile(path);
    if (text === null) fail("cannot read " + path);
    return text;
}

// The clock never goes back, and what chance said is the same in memory and in the file.
function ask() {
    const now = os.now();
    if (now < clock) fail("the clock went back from " + clock + " to " + now);
    clock = now;
    noise.push(Math.random() + " " + Date.now());
    put("/book/noise", "a", noise[noise.length - 1] + "\n");
    if (get("/book/noise") !== noise.join("\n") + "\n") fail("the noise is not what it was");
}

// The first prime from a number on that the sum decides: computed the slow way, on purpose.
function prime() {
    for (let n = 1000000 + sum % 1000000; ; n++) {
        let divisor = 2;
        while (divisor * divisor <= n && n % divisor) divisor++;
        if (divisor * divisor > n) return n;
    }
}

// Written beside, renamed, read back; every third one is sold, and its card comes down again.
function show(number, order) {
    const name = "/window/" + String(number).padStart(2, "0");
    const card = order + "\nprice " + prime() + "\n" + mix(order) + "\n";
    put(name + ".new", "w", card);
    if (os.rename(name + ".new", name + ".txt")) fail("cannot rename " + name);
    if (get(name + ".txt") !== card) fail("the card is not what was written");
    put("/window/all.txt", "a", number + " " + order + "\n");
    if (number % 3 === 0 && os.remove(name + ".txt")) fail("cannot remove " + name);
    return mix(card);
}

function main() {
    os.mkdir("/book");
    print("ticket " + ticket);
    let number = 0, order;
    while ((order = std.in.getline()) !== null) {
        number++;
        ask();
        const done = show(number, order);
        put("/book/ledger.new", "w", number + " orders, " + done + "\n");
        if (os.rename("/book/ledger.new", "/book/ledger")) fail("cannot rename the ledger");
        print(String(number).padStart(2, " ") + "  " + order.padEnd(18, " ") + " " + done);
        std.out.flush();
        if (number % 8 === 0) std.err.puts(number + " orders are done\n"), std.err.flush();
        os.sleep(Number(scriptArgs[1] || 0));
    }
    print(get("/book/ledger").trim() + ", in the window: " + mix(get("/window/all.txt")));
    if (os.remove("/book/noise")) fail("cannot remove the noise");
    print("ticket " + ticket + " is still the same");
}

main();
