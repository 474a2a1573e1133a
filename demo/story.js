// A day at a bakery: a program with all kinds of state: variables, unfinished files, random
// numbers and the time. The program draws a random ticket at the start and prints it again at the
// end. A program that was started again would print another ticket. The rest of its output depends
// only on its orders, which come from standard input.
//
// The books are in memory (/book). The shop window is a directory of the host (/window).

const DIGITS = 8;
let ticket = "";
while (ticket.length < DIGITS) ticket += Math.floor(Math.random() * 16).toString(16);

const noise = [];          // random numbers and times, kept here and in a file
let sum = 2166136261;      // checksum of all steps: detects a missing or repeated step
let clock = 0;

function fail(what) {
    print("ERROR: " + what);
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

// Check that the clock never goes back, and that memory and file have the same random numbers.
function ask() {
    const now = os.now();
    if (now < clock) fail("the clock went back from " + clock + " to " + now);
    clock = now;
    noise.push(Math.random() + " " + Date.now());
    put("/book/noise", "a", noise[noise.length - 1] + "\n");
    if (get("/book/noise") !== noise.join("\n") + "\n") fail("the file of random numbers has changed");
}

// Return the first prime at or above a number from the checksum. The slow method is intended.
function prime() {
    for (let n = 1000000 + sum % 1000000; ; n++) {
        let divisor = 2;
        while (divisor * divisor <= n && n % divisor) divisor++;
        if (divisor * divisor > n) return n;
    }
}

// Write a card to a new file, rename it and read it back. Every third card is removed again.
function show(number, order) {
    const name = "/window/" + String(number).padStart(2, "0");
    const card = order + "\nprice " + prime() + "\n" + mix(order) + "\n";
    put(name + ".new", "w", card);
    if (os.rename(name + ".new", name + ".txt")) fail("cannot rename " + name);
    if (get(name + ".txt") !== card) fail("the card has changed");
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
    if (os.remove("/book/noise")) fail("cannot remove the file of random numbers");
    print("ticket " + ticket + " is still the same");
}

main();
