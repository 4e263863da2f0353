// A consumer of interventions that acts once on each, and never too late.
//
//   npm ci
//   node consume.mjs --bootstrap-servers localhost:9092 --kind coupon
//
// It prints a line for each intervention that it acts on; put your own action into `act`. Ids are
// remembered in a file, so that a crash of this program, or of Clickpath's worker, repeats nothing.

import { appendFileSync, existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Kafka, logLevel } from "kafkajs";

const { values: options } = parseArgs({
  options: {
    "bootstrap-servers": { type: "string", default: "localhost:9092" },
    kind: { type: "string", default: "coupon" },
    group: { type: "string" },
    seen: { type: "string", default: "seen.txt" },
  },
});

/** The ids of interventions that were acted on, a line each in a file, until they expire. */
class Seen {
  constructor(path) {
    this.path = path;
    this.expiresMs = new Map();
    const lines = existsSync(path) ? readFileSync(path, "utf8").split("\n").filter(Boolean) : [];
    for (const line of lines) {
      const [id, expiresMs] = line.split(" ");
      this.expiresMs.set(id, Number(expiresMs));
    }
    this.forgetExpired();
  }

  has(id) {
    return this.expiresMs.has(id);
  }

  add(id, expiresMs) {
    appendFileSync(this.path, `${id} ${expiresMs}\n`);
    this.expiresMs.set(id, expiresMs);
    if (this.expiresMs.size > 2 * this.kept + 1000) this.forgetExpired();
  }

  /** What has expired is refused by its time; nobody needs its id. */
  forgetExpired() {
    for (const [id, expiresMs] of this.expiresMs) {
      if (expiresMs <= Date.now()) this.expiresMs.delete(id);
    }
    this.kept = this.expiresMs.size;
    const lines = [...this.expiresMs].map(([id, expiresMs]) => `${id} ${expiresMs}\n`);
    writeFileSync(`${this.path}.new`, lines.join(""));
    renameSync(`${this.path}.new`, this.path);
  }
}

/**
 * What you do about it. If the power fails between this and `Seen.add`, it is done once more: give
 * the intervention's id to whatever you call, as its idempotency key.
 */
async function act(intervention) {
  console.log(JSON.stringify({ acted_on: intervention.intervention_id, ...intervention.payload }));
}

/** The three rules: a version that we know, not expired, not seen before. */
async function handle(value, seen) {
  if (value === null) return;
  const intervention = JSON.parse(value); // fields that we do not know are of no concern
  const id = intervention.intervention_id;
  if (intervention.v !== 1) {
    console.error(`version ${intervention.v} is from the future, passed over`);
  } else if (intervention.expires_ms <= Date.now()) {
    console.error(`${id} has expired`);
  } else if (seen.has(id)) {
    console.error(`${id} was done before`);
  } else {
    await act(intervention);
    seen.add(id, intervention.expires_ms);
  }
}

const kafka = new Kafka({
  clientId: "clickpath-consumer-example",
  brokers: options["bootstrap-servers"].split(","),
  logLevel: logLevel.ERROR,
});
// Reads committed records only: with CLICKPATH_DELIVERY=transactional, what was aborted never
// happened. That is kafkajs' default.
const consumer = kafka.consumer({
  groupId: options.group ?? `${options.kind}-service`,
  sessionTimeout: 6_000,
  heartbeatInterval: 1_000,
});
const seen = new Seen(options.seen);

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, async () => {
    await consumer.disconnect();
    process.exit(0);
  });
}

await consumer.connect();
await consumer.subscribe({ topic: `interventions.${options.kind}`, fromBeginning: true });
await consumer.run({
  autoCommit: false,
  eachMessage: async ({ topic, partition, message }) => {
    await handle(message.value, seen);
    // The offset follows the action: what was not finished comes again.
    const offset = (BigInt(message.offset) + 1n).toString();
    await consumer.commitOffsets([{ topic, partition, offset }]);
  },
});
