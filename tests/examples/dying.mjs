// Loaded before the subscriber in Node, which then dies (kill -9) at the replacement of its file whose number
// DIE_AT says, before it is done.
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

const { renameSync } = fs
let left = Number(process.env.DIE_AT)
fs.renameSync = (...names) => {
  left -= 1
  if (left === 0) process.kill(process.pid, 'SIGKILL')
  renameSync(...names)
}
syncBuiltinESMExports()
