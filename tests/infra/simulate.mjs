// Answers a list of IAM simulations, read from the standard input, with a list of results.
import { readFileSync } from 'node:fs'
import { runSimulation } from '@cloud-copilot/iam-simulate'

const asked = JSON.parse(readFileSync(0, 'utf8'))
const answers = []
for (const simulation of asked) {
  const found = await runSimulation(simulation, {})
  answers.push(found.resultType === 'error' ? { error: found.errors } : found.overallResult)
}
console.log(JSON.stringify(answers))
