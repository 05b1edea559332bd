// A Node server: logs every request that it sees, answers when the body is complete. Usage: server.js LOG
const fs = require("fs");
const http = require("http");
const log = fs.openSync(process.argv[2], "a");
const note = (line) => fs.writeSync(log, line + "\n");

const server = http.createServer({ keepAliveTimeout: 60000 }, (request, response) => {
  note(`${request.method} ${request.url}`);
  request.on("error", () => {});
  request.resume();
  request.on("end", () => setTimeout(() => {
    const busy = request.url.includes("busy");
    response.writeHead(busy ? 503 : 200, { "x-seen": encodeURI(request.url).slice(0, 200), "content-type": "text/plain" });
    response.end(request.method === "HEAD" ? undefined : "ok\n");
  }, request.url.startsWith("/slow-p") ? 300 : 0));
});
server.on("clientError", (error, socket) => {
  // A connection that ends between or inside requests is none of them misread.
  if (error.code !== "ECONNRESET" && error.code !== "HPE_INVALID_EOF_STATE") note("BAD " + error.code);
  socket.destroy();
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
