// A TCP server as server.py is one. `lock` waits on the event loop's own thread for a worker that never notifies.
const net = require('net');
const { Worker } = require('worker_threads');
const word = new Int32Array(new SharedArrayBuffer(4));
new Worker("setInterval(() => {}, 1000)", { eval: true });
net.createServer((connection) => connection.on('data', (data) => {
  for (const line of data.toString().split('\n').filter(Boolean)) {
    if (line.startsWith('lock')) Atomics.wait(word, 0, 0);
    connection.write('done\n');
  }
})).listen(Number(process.argv[3]), '127.0.0.1');
