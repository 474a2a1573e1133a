// A program as programs are: mostly its own work, and now and then a word with its host.
//
// Each round computes for some ten milliseconds with functions, strings and objects, asks the
// time and chance, prints, writes a log and reads it back. What it prints depends on nothing that
// it was told, so that two hosts must give the same output.

const ROUNDS = 150;
const LOG = "/workload.log";

let sum = 2166136261;

function mix(text) {
    for (let i = 0; i < text.length; i++)
        sum = Math.imul(sum ^ text.charCodeAt(i), 16777619) >>> 0;
    return sum.toString(16).padStart(8, "0");
}

function fibonacci(n) {
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

function words(round) {
    const counts = {};
    for (let i = 0; i < 4000; i++) {
        const word = "w" + ((i * 7919 + round * 104729) % 997);
        counts[word] = (counts[word] || 0) + 1;
    }
    const sorted = Object.entries(counts).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
    return sorted.slice(0, 20).map(([word, count]) => word + "=" + count).join(",");
}

class Point {
    constructor(x, y) { this.x = x; this.y = y; }
    plus(other) { return new Point(this.x + other.x, this.y + other.y); }
}

function walk(round) {
    let at = new Point(0, 0);
    for (let i = 0; i < 6000; i++) at = at.plus(new Point(Math.sin(i + round), Math.cos(i)));
    return at.x.toFixed(6) + " " + at.y.toFixed(6);
}

function ask() {
    let last = Date.now();
    for (let i = 0; i < 50; i++) {
        const now = Date.now();
        if (now < last - 1000) throw new Error("the clock went back");
        last = now;
        const chance = Math.random();
        if (!(chance >= 0 && chance < 1)) throw new Error("chance is out of its range");
    }
}

function keep(round) {
    const log = std.open(LOG, "a");
    for (let i = 0; i < 20; i++) {
        log.puts("round " + round + " record " + i + " " + "x".repeat(40) + "\n");
        log.flush();
    }
    log.close();
    return std.loadFile(LOG).length;
}

for (let round = 0; round < ROUNDS; round++) {
    const found = [fibonacci(19), words(round), walk(round)];
    found.push(JSON.stringify(JSON.parse(JSON.stringify({ round, found }))).length);
    ask();
    found.push(keep(round));
    for (const one of found) print("round " + round + ": " + mix(String(one)) + " " + one);
}
