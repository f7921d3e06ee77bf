// Socket.IO as its documentation shows it for several servers: the Redis adapter, one room.
const { createServer } = require("node:http");
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-adapter");
const { createClient } = require("redis");

async function main(port, redisUrl) {
  const publisher = createClient({ url: redisUrl });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  const http = createServer();
  const io = new Server(http, { adapter: createAdapter(publisher, subscriber), transports: ["websocket"] });
  io.on("connection", (socket) => socket.join("hot"));
  http.listen({ port, host: "127.0.0.1", backlog: 1024 });
}

main(Number(process.argv[2]), process.argv[3]);
