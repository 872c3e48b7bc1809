// The peer `ioredis` of the `pools` bench: a closed loop of tasks on one client with automatic
// pipelining. Reads `TASKS MILLISECONDS` a line, answers each with one line of JSON; ends with
// its input.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import Redis from "ioredis";

const { version } = createRequire(import.meta.url)("ioredis/package.json");
const [url, keys, valueBytes] = process.argv.slice(2);
const redis = new Redis(url, { enableAutoPipelining: true });

async function caller(seed, until) {
  let random = seed;
  const times = [];
  while (performance.now() < until) {
    random ^= random << 13;
    random ^= random >>> 17;
    random ^= random << 5;
    const key = `key:${String((random >>> 0) % keys).padStart(12, "0")}`;
    const sent = performance.now();
    const value = await redis.get(key);
    times.push((performance.now() - sent) * 1000);
    if (value?.length !== Number(valueBytes)) throw new Error(`${value?.length} bytes came`);
  }
  return times;
}

async function round(tasks, milliseconds) {
  const started = performance.now();
  const until = started + milliseconds;
  const all = await Promise.all(Array.from({ length: tasks }, (_, task) => caller(task + 1, until)));
  const seconds = (performance.now() - started) / 1000;
  const times = Float64Array.from(all.flat()).sort();
  const at = (share) => times[Math.floor((times.length - 1) * share)];
  const least = Math.min(...all.map((task) => task.length));
  return {
    throughput: times.length / seconds,
    p50_us: at(0.5),
    p99_us: at(0.99),
    p999_us: at(0.999),
    max_us: at(1),
    least_share: (least * tasks) / times.length,
  };
}

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

await redis.ping();
say({ version });
for await (const line of createInterface({ input: process.stdin })) {
  const [tasks, milliseconds] = line.split(" ").map(Number);
  say(await round(tasks, milliseconds));
}
redis.disconnect();
