// The peer `bentocache` of the `cache-races` bench: one replica with memory, Redis and a bus over
// Redis Pub/Sub. Each line of its input is a request or the answer to a load, each line of its
// output an answer or a request to load; ends with its input.

import { createInterface } from "node:readline";
import { BentoCache, bentostore } from "bentocache";
import { memoryDriver } from "bentocache/drivers/memory";
import { redisBusDriver, redisDriver } from "bentocache/drivers/redis";

const [host, port, namespace, entries, ttl] = process.argv.slice(2);
const connection = { host, port: Number(port) };
const cache = new BentoCache({
  default: "records",
  stores: {
    records: bentostore({ ttl: Number(ttl) })
      .useL1Layer(memoryDriver({ maxItems: Number(entries) }))
      .useL2Layer(redisDriver({ connection, prefix: namespace }))
      .useBus(redisBusDriver({ connection })),
  },
});

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

let lastLoad = 0;
const loads = new Map();

function load(key) {
  return new Promise((resolve, reject) => {
    lastLoad += 1;
    loads.set(lastLoad, { resolve, reject });
    say({ load: lastLoad, key });
  });
}

async function answer(request, work) {
  try {
    say({ answer: request, version: await work() });
  } catch (error) {
    say({ answer: request, error: String(error?.message ?? error) });
  }
}

async function read(key) {
  const record = await cache.getOrSet({ key, factory: () => load(key) });
  return record.version;
}

async function forget(key) {
  await cache.delete({ key });
  return 0;
}

say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const { request, get, drop, loaded, record, error } = JSON.parse(line);
  if (get) answer(request, () => read(get));
  else if (drop) answer(request, () => forget(drop));
  else {
    const { resolve, reject } = loads.get(loaded);
    loads.delete(loaded);
    if (record) resolve(record);
    else reject(new Error(error));
  }
}
process.exit(0);
