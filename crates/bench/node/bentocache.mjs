// The peer `bentocache` of the benches `cache` and `cache-races`: one replica with memory, Redis and a bus over
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

// The driver tells of every connection that is reset; what becomes of the reads shows it.
const tell = console.error;
console.error = (...said) => {
  if (!String(said[0]).startsWith("[ioredis]")) tell(...said);
};

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
    say({ answer: request, value: await work() });
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

// Microseconds that a batch takes; there is no read of several keys, so all are read at once.
async function many(keys) {
  const asked = performance.now();
  await Promise.all(keys.map(read));
  return (performance.now() - asked) * 1e3;
}

// A closed loop of reads of random keys: each task reads again when it has its answer.
async function run({ keys, tasks, ms }) {
  const times = [];
  const started = performance.now();
  const until = started + ms;
  const task = async () => {
    while (performance.now() < until) {
      const key = keys[Math.floor(Math.random() * keys.length)];
      const asked = performance.now();
      await read(key);
      times.push(performance.now() - asked);
    }
  };
  await Promise.all(Array.from({ length: tasks }, task));
  const elapsed = performance.now() - started;
  const sorted = Float64Array.from(times).sort();
  const at = (share) => sorted[Math.floor((sorted.length - 1) * share)] * 1e3;
  return {
    throughput: (sorted.length / elapsed) * 1e3,
    p50_us: at(0.5),
    p99_us: at(0.99),
    max_us: at(1),
  };
}

say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const { request, get, drop, many: batch, run: loop, loaded, record, error } = JSON.parse(line);
  if (get) answer(request, () => read(get));
  else if (drop) answer(request, () => forget(drop));
  else if (batch) answer(request, () => many(batch));
  else if (loop) answer(request, () => run(loop));
  else {
    const { resolve, reject } = loads.get(loaded);
    loads.delete(loaded);
    if (record) resolve(record);
    else reject(new Error(error));
  }
}
process.exit(0);
