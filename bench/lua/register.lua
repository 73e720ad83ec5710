-- Registers instances that were never there. Arguments: a file with one body, and a prefix of the names.
local threads, count = 0, 0
local tail, prefix

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

function init(arguments)
  math.randomseed(number)
  local file = assert(io.open(arguments[1]))
  local body = file:read("*a")
  file:close()
  prefix = arguments[2] .. number .. "-"
  tail = " HTTP/1.1\r\nHost: bench\r\nUser-Agent: sidecar/0.1.0\r\nContent-Type: application/json\r\nContent-Length: "
    .. #body .. "\r\n\r\n" .. body
end

function request()
  count = count + 1
  return "PUT /services/service-" .. math.random(0, 999) .. "/instances/" .. prefix .. count .. ":8080" .. tail
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("bench %d %d %d %d %.0f %.0f\n", summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout, latency:percentile(50), latency:percentile(99)))
end
