// A subscriber of Leadstream in Node: `npm ci`, then `npm start`.
//
// It keeps each lead as it is now, and notes once whom to call: a lead that has just crossed the threshold of a
// band. Its position in Kafka is kept beside them, in a file that is replaced as a whole. So it may be killed at
// any moment, and goes on where its file is: nothing is missed, and nothing is done twice. With many leads, use
// tables and a transaction of your database instead of a file.

import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs'
import { Kafka, logLevel } from 'kafkajs'

const prefix = process.env.LEADSTREAM_KAFKA_PREFIX ?? ''
const [LEAD_SCORES, LEAD_CHANGES] = [`${prefix}lead-scores`, `${prefix}lead-changes`]
const file = process.env.STORE ?? 'leads.json'

const store = opened()

function opened() {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    if (error.code !== 'ENOENT') throw error
    return { positions: {}, leads: {}, calls: {} }
  }
}

// All of it is on disk, or all of it is as before.
function save() {
  const next = openSync(`${file}.next`, 'w')
  writeSync(next, JSON.stringify(store))
  fsyncSync(next)
  closeSync(next)
  renameSync(`${file}.next`, file)
}

// The records' effects and the position after them. Returns the calls to make.
function take({ topic, partition, messages, next }) {
  const place = `${topic}/${partition}`
  const position = BigInt(store.positions[place] ?? 0)
  const untaken = messages.filter(({ offset }) => BigInt(offset) >= position)
  const calls = untaken.flatMap(({ key, value }) => apply(topic, key.toString(), value))
  if (next > position) store.positions[place] = next.toString()
  save()
  return calls
}

function apply(topic, key, value) {
  if (value === null) {
    delete store.leads[key] // a tombstone: the lead is no more
    return []
  }
  const statement = JSON.parse(value) // fields and types that are not known here are ignored
  if (topic === LEAD_SCORES) {
    const totals = Object.entries(statement.scores).map(([model, { total }]) => [model, total])
    store.leads[key] = { stage: statement.stage, scores: Object.fromEntries(totals) }
  } else if (statement.type === 'band_changed' && statement.crossed?.length && !statement.silent) {
    const { statement_id: id, lead_id: lead, band } = statement
    if (id in store.calls) return [] // a repetition
    store.calls[id] = { lead, band }
    return [[id, lead, band]]
  }
  return []
}

const kafka = new Kafka({
  brokers: (process.env.LEADSTREAM_KAFKA ?? '127.0.0.1:9092').split(','),
  clientId: 'leads-to-call',
  logLevel: logLevel.WARN,
})
const consumer = kafka.consumer({
  groupId: process.env.GROUP ?? 'leads-to-call',
  sessionTimeout: 6_000, // after so long the partitions of a killed one are given to another
  heartbeatInterval: 2_000,
  readUncommitted: false, // only what was committed counts
})

// The position is in the store, whatever the group says.
consumer.on(consumer.events.GROUP_JOIN, ({ payload: { memberAssignment } }) => {
  for (const [topic, partitions] of Object.entries(memberAssignment)) {
    for (const partition of partitions) {
      const position = store.positions[`${topic}/${partition}`]
      if (position !== undefined) consumer.seek({ topic, partition, offset: position })
    }
  }
})

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, async () => {
    await consumer.disconnect()
    process.exit(0)
  })
}
// A failure that does not pass by itself ends the process: whoever started it starts it again.
consumer.on(consumer.events.CRASH, ({ payload }) => {
  if (!payload.restart) process.exit(1)
})

await consumer.connect()
await consumer.subscribe({ topics: [LEAD_SCORES, LEAD_CHANGES], fromBeginning: true })
await consumer.run({
  autoCommit: false,
  eachBatchAutoResolve: false,
  eachBatch: async ({ batch, resolveOffset, heartbeat }) => {
    const { topic, partition, messages } = batch
    const calls = take({ topic, partition, messages, next: BigInt(batch.lastOffset()) + 1n })
    for (const call of calls) console.log(JSON.stringify({ call }))
    resolveOffset(batch.lastOffset())
    await heartbeat()
  },
})
