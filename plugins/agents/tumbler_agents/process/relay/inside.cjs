// What `inside.py` is, for sandboxes that have Node and no Python: the same frames on the same pipes.
'use strict';
const net = require('net');

const READY = 0, OPEN = 1, DATA = 2, END = 3, ABORT = 4, GRANT = 5;
const HEAD = 9, PIECE = 1 << 14, WINDOW = 1 << 16, CONNECTIONS = 64;

const open = new Map();
const waiting = [];
let opened = 0;

function send(kind, number, payload) {
  const frame = Buffer.allocUnsafe(HEAD + payload.length);
  frame.writeUInt8(kind, 0);
  frame.writeUInt32BE(number, 1);
  frame.writeUInt32BE(payload.length, 5);
  payload.copy(frame, HEAD);
  process.stdout.write(frame);
}

function grant(number, size) {
  const payload = Buffer.allocUnsafe(4);
  payload.writeUInt32BE(size, 0);
  send(GRANT, number, payload);
}

// Says what the socket says, as far as there is room for it.
function pump(each) {
  while (each.credit > HEAD && !each.socket.destroyed) {
    const room = Math.min(PIECE, each.credit - HEAD, each.socket.readableLength);
    // Reading what is empty is what makes an ended socket say so.
    const piece = room > 0 ? each.socket.read(room) : each.socket.read();
    if (piece === null) return;
    each.credit -= HEAD + piece.length;
    send(DATA, each.number, piece);
  }
}

function settle(each) {
  if (open.get(each.number) !== each) return;
  open.delete(each.number);
  admit();
}

function admit() {
  while (open.size < CONNECTIONS && waiting.length > 0) serve(waiting.shift());
}

function serve(socket) {
  if (socket.destroyed) return;
  const each = { number: ++opened, socket, credit: WINDOW, held: 0, gone: false, ended: false };
  open.set(each.number, each);
  send(OPEN, each.number, Buffer.alloc(0));
  socket.on('readable', () => pump(each));
  socket.on('end', () => { each.ended = true; send(END, each.number, Buffer.alloc(0)); });
  socket.on('error', () => {});
  socket.on('close', () => {
    if (!each.gone && !(each.ended && socket.writableFinished)) send(ABORT, each.number, Buffer.alloc(0));
    each.gone = true;
    settle(each);
  });
}

function take(kind, number, payload) {
  const each = open.get(number);
  if (each === undefined) return;
  if (kind === GRANT) {
    each.credit += payload.readUInt32BE(0);
    pump(each);
  } else if (kind === ABORT) {
    each.gone = true;
    each.socket.destroy();
  } else if (kind === END) {
    each.socket.end();
  } else if (kind === DATA) {
    const cost = HEAD + payload.length;
    each.held += cost;
    if (each.held > WINDOW) throw new Error(`connection ${number} has sent more than it was granted`);
    each.socket.write(payload, (error) => {
      each.held -= cost;
      if (!error) grant(number, cost);
    });
  }
}

let buffer = Buffer.alloc(0);
process.stdin.on('data', (data) => {
  buffer = buffer.length ? Buffer.concat([buffer, data]) : data;
  let position = 0;
  while (buffer.length - position >= HEAD) {
    const kind = buffer.readUInt8(position), length = buffer.readUInt32BE(position + 5);
    if (kind > GRANT || length > PIECE) throw new Error(`a frame of kind ${kind} and ${length} bytes`);
    if (buffer.length - position < HEAD + length) break;
    take(kind, buffer.readUInt32BE(position + 1), buffer.subarray(position + HEAD, position + HEAD + length));
    position += HEAD + length;
  }
  buffer = buffer.subarray(position);
});
process.stdin.on('end', () => process.exit(0));
process.stdin.on('error', () => process.exit(0));
process.stdout.on('error', () => process.exit(0));

const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  waiting.push(socket);
  admit();
});
server.listen(0, '127.0.0.1', () => {
  const port = Buffer.allocUnsafe(2);
  port.writeUInt16BE(server.address().port, 0);
  send(READY, 0, port);
});
