// Follows a run of a real SVOps and prints each event as a line of JSON; at the end, how many tickets it took.
// The platform's tests start it: they compare what it prints with the log.

import { followRun, Svops } from "../dist/index.js";

const { run, url, through, key, ttl, transport } = JSON.parse(process.argv[2]);
const backEnd = new Svops({ url, token: key });
let tickets = 0;
let cuts = 0;

async function ticket() {
  tickets += 1;
  return await backEnd.post("/tickets", { body: { run_id: run, actions: ["view"], ttl } });
}

const onConnection = (connection) => {
  cuts += connection === "reconnecting" ? 1 : 0;
};
for await (const event of followRun(run, { url: through, ticket, transport, onConnection })) {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}
process.stdout.write(`${JSON.stringify({ tickets, cuts })}\n`);
