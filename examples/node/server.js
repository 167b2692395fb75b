// A small JSON API. `node server.js --check` serves one request to itself and prints the answer.
import { serve } from '@hono/node-server'
import { Hono } from 'hono'

const app = new Hono()
app.get('/', (context) => context.json({ hello: process.env.GREET ?? 'world' }))

const port = Number(process.env.PORT ?? 3000)
const server = serve({ fetch: app.fetch, port }, async () => {
  if (!process.argv.includes('--check')) {
    console.log(`listening on port ${port}`)
    return
  }
  const response = await fetch(`http://127.0.0.1:${port}/`)
  console.log(await response.text())
  server.close()
})

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => server.close(() => process.exit(0)))
}
