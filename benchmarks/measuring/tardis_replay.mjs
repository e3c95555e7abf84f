// tardis-dev's mappers and OrderBook over a file as tardis.dev stores it, from gzip to the top of the book.
// usage: node tardis_replay.mjs PACKAGE EXCHANGE FILE PASSES; one JSON object on stdout, as replay.py writes it of ours.
import { createReadStream, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { createGunzip } from 'node:zlib'

const [folder, exchange, path, passes] = process.argv.slice(2)
const isModule = JSON.parse(readFileSync(folder + '/package.json')).type === 'module'
const require = createRequire(import.meta.url)
const tardis = isModule ? await import(pathToFileURL(folder + '/dist/index.js')) : require(folder)

async function* lines() {
  let rest = ''
  for await (const chunk of createReadStream(path).pipe(createGunzip({ chunkSize: 1 << 17 }))) {
    const found = (rest + chunk.toString('latin1')).split('\n')
    rest = found.pop()
    yield found
  }
  if (rest) yield [rest]
}

async function play() {
  let mappers
  let n = 0
  const book = new tardis.OrderBook()
  const seen = { events: 0, spread: 0 }
  for await (const some of lines()) {
    for (const line of some) {
      if (line === '') continue
      const time = new Date(line.slice(0, 28))
      const message = JSON.parse(line.slice(29))
      n += message.generated === undefined
      mappers ??= [
        tardis.normalizeTrades(exchange, time),
        tardis.normalizeBookChanges(exchange, time),
        tardis.normalizeBookTickers(exchange, time)
      ]
      for (const mapper of mappers) {
        if (!mapper.canHandle(message)) continue
        for (const event of mapper.map(message, time)) {
          seen.events++
          if (event.type !== 'book_change') continue
          book.update(event)
          const bid = book.bestBid()
          const ask = book.bestAsk()
          if (bid && ask) seen.spread += ask.price - bid.price
        }
      }
    }
  }
  return { n, top: [[...book.bids()].length, [...book.asks()].length, book.bestBid().price, book.bestAsk().price] }
}

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1]
const wall = []
const cpu = []
let found
for (let pass = 0; pass < Number(passes); pass++) {
  const began = process.hrtime.bigint()
  const used = process.cpuUsage()
  found = await play()
  const { user, system } = process.cpuUsage(used)
  wall.push(Number(process.hrtime.bigint() - began))
  cpu.push((user + system) * 1000)
}
console.log(JSON.stringify({ ...found, wall: median(wall), cpu: median(cpu) }))
