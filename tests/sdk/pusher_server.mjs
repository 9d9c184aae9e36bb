// Calls one method of the `pusher` package after another, and prints their results as JSON.
import Pusher from 'pusher'

const { options, calls } = JSON.parse(process.argv[2])
const pusher = new Pusher(options)
const results = []
for (const [method, ...values] of calls) {
  try {
    const response = await pusher[method](...values)
    results.push({ status: response.status, body: await response.json() })
  } catch (error) {
    results.push({ status: error.status ?? 0, body: error.body ? JSON.parse(error.body) : error.message })
  }
}
console.log(JSON.stringify(results))
