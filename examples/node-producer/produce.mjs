// A producer of Leadstream in Node 18 or newer, without any package: `node produce.mjs < events.jsonl`.
//
// It sends the events of its input, one JSON object a line, in batches. It sends a batch again until the server has it in
// its log, so a restart of the server loses nothing; an event that comes twice counts once, since it keeps its event_id.
// Events that the server refuses are printed with the reason. Exit code 1: some were refused.

import { randomUUID } from 'node:crypto'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

const url = process.env.LEADSTREAM_URL ?? 'http://127.0.0.1:8000'
const key = process.env.LEADSTREAM_WRITE_KEY
const [batchSize, timeout] = [500, 30_000]

// The event with an id and a time, before it is sent for the first time.
const named = (line) => ({ event_id: randomUUID(), occurred_at: new Date().toISOString(), ...JSON.parse(line) })

// Returns the server's answer once all of them are in the log, or refused.
async function send(events) {
  const headers = { 'Content-Type': 'application/json', ...(key && { 'X-Write-Key': key }) }
  const body = JSON.stringify(events)
  for (;;) {
    let pause = 1
    try {
      const answer = await fetch(`${url}/v1/events`, { method: 'POST', headers, body, signal: AbortSignal.timeout(timeout) })
      if (answer.ok || answer.status === 422) return await answer.json() // 422: all were refused
      if (![408, 429, 500, 502, 503, 504].includes(answer.status)) {
        console.error(`${answer.status}: ${await answer.text()}`)
        process.exit(1)
      }
      pause = Number(answer.headers.get('Retry-After') ?? pause)
    } catch (error) {
      console.error(`waiting for ${url}: ${error.cause?.code ?? error.message}`)
    }
    await sleep(pause * 1_000)
  }
}

let refused = 0
async function deliver(batch) {
  const answer = await send(batch)
  refused += answer.refused
  for (const event of answer.events) if (event.status !== 'accepted') console.log(JSON.stringify(event))
}

let batch = []
for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim()) batch.push(named(line))
  if (batch.length === batchSize) await deliver(batch.splice(0))
}
if (batch.length) await deliver(batch)
process.exitCode = refused ? 1 : 0
