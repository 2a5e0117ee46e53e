-- Sends the requests of a file in turn. The file has each request's length in bytes, a line feed, and its bytes.
-- Usage: wrk … -s wrk.lua URL -- FILE [once]. With `once`, each request is sent at most one time.

local requests, turn, once = {}, 0, false

function init(args)
   once = args[2] == "once"
   local file = assert(io.open(args[1], "rb"))
   while true do
      local length = file:read("*n")
      if not length then break end
      file:read(1)
      requests[#requests + 1] = file:read(length)
   end
   file:close()
end

function request()
   turn = turn + 1
   if turn > #requests then
      if once then wrk.thread:stop() end
      turn = 1
   end
   return requests[turn]
end

function done(summary, latency, _)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "us": %d, "bytes": %d, "p50": %d, "p99": %d, "max": %d, "refused": %d, "broken": %d}\n',
      summary.requests, summary.duration, summary.bytes,
      latency:percentile(50), latency:percentile(99), latency.max,
      errors.status, errors.connect + errors.read + errors.write + errors.timeout
   ))
end
