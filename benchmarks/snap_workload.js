// Builds objects, and then says where it is every few milliseconds: also when it is resumed.
const records = [];
for (let i = 0; i < 50000; i++) records.push({id: i, name: `record ${i}`, tags: [i % 7, i % 11]});
let sum = 0;
for (let round = 0; ; round++) {
    for (let i = 0; i < 2000; i++) sum = (sum * 31 + records[(round * 2000 + i) % 50000].id) % 65521;
    console.log(`${round} ${sum}`);
    std.out.flush();
}
