-- POSTs the file named by BODY with the header lines of the file named by HEADERS; prints one JSON line of exact figures.
local function content(name)
  local file = io.open(os.getenv(name), "rb")
  local all = file:read("*a")
  file:close()
  return all
end

wrk.method = "POST"
wrk.body = content("BODY")
for line in content("HEADERS"):gmatch("[^\n]+") do
  local name, value = line:match("^([^:]+): (.*)$")
  wrk.headers[name] = value
end

done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format('\nJSON{"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"failures":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
